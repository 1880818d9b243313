import torch

torch.set_num_threads(1)  # for small networks threads cost more than they gain, more so with parallel tests
