import torch

torch.set_num_threads(1)  # small networks: threads cost more than they bring, the more where tests run side by side
