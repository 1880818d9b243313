import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Use one thread: for tiny networks, a second one costs more than it gains."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
