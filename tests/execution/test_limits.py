"""Cores and memory of this process: affinity, control groups, Slurm; the plan of workers that follows from them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nasx import machine
from nasx.data.dataset import stays_on_disk
from nasx.execution import ray, workers
from nasx.execution.ray import RayExecution
from nasx.execution.serial import SerialExecution
from nasx.execution.workers import plan_workers

GB = 10**9


@pytest.fixture
def tree(tmp_path):
    """Write files of a machine, by their paths, and return its root."""

    def write(files):
        for name, text in files.items():
            file = tmp_path / name.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path

    return write


def mounts(*lines):
    return "".join(f"{25 + i} 23 0:{i} {line} - {kind}\n" for i, (line, kind) in enumerate(lines))


@pytest.fixture
def many_cores(monkeypatch):
    monkeypatch.setattr(machine, "affinity", lambda: 64)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)


V2 = {"/proc/self/mountinfo": mounts(("/ /sys/fs/cgroup rw,nosuid shared:9", "cgroup2 cgroup2 rw,nsdelegate"))}
V1 = {
    "/proc/self/mountinfo": mounts(
        ("/ /sys/fs/cgroup rw", "tmpfs tmpfs rw"),
        ("/ /sys/fs/cgroup/cpu,cpuacct rw", "cgroup cgroup rw,cpu,cpuacct"),
        ("/ /sys/fs/cgroup/memory rw", "cgroup cgroup rw,memory"),
    ),
    "/proc/self/cgroup": "7:cpu,cpuacct:/a/b\n4:memory:/m\n0::/\n",
}


CPU = "/sys/fs/cgroup/cpu,cpuacct"


def quota(group, quota, period="100000"):
    return {f"{group}/cpu.cfs_quota_us": quota, f"{group}/cpu.cfs_period_us": period}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        # version 2: in a container the group is the root of what is visible
        (V2 | {"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
        (V2 | {"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        (V2 | {"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "max 100000\n"}, 64),
        # the group itself, any parent, the least of both
        (V2 | {"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/b/cpu.max": "300000 100000\n"}, 3),
        (V2 | {"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/cpu.max": "20000 10000\n"}, 2),
        (
            V2
            | {"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/cpu.max": "4 1"}
            | {"/sys/fs/cgroup/a/b/cpu.max": "3 1"},
            3,
        ),
        # the path of the host's group, which the container does not see
        (V2 | {"/proc/self/cgroup": "0::/docker/1234\n", "/sys/fs/cgroup/cpu.max": "2 1\n"}, 2),
        (V2 | {"/proc/self/cgroup": "0::/../../x\n", "/sys/fs/cgroup/cpu.max": "2 1\n"}, 2),
        # groups of others
        (V2 | {"/proc/self/cgroup": "0::/a\n", "/sys/fs/cgroup/b/cpu.max": "1 1\n"}, 64),
        # version 1
        (V1 | quota(f"{CPU}/a/b", "50000"), 0.5),
        (V1 | quota(f"{CPU}/a", "400000"), 4),
        (V1 | quota(f"{CPU}/a/b", "-1"), 64),
        (V1 | {f"{CPU}/a/b/cpu.cfs_quota_us": "50000"}, 64),  # without a period
        # version 1 in a container: the mount shows the group of the host as its root
        (
            {
                "/proc/self/mountinfo": mounts(("/docker/12 /sys/fs/cgroup/cpu ro", "cgroup cgroup rw,cpu")),
                "/proc/self/cgroup": "3:cpu:/docker/12/inner\n",
                "/sys/fs/cgroup/cpu/inner/cpu.cfs_quota_us": "3",
                "/sys/fs/cgroup/cpu/inner/cpu.cfs_period_us": "1",
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "5",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "1",
            },
            3,
        ),
        # both versions at once; another place, with a space
        (
            {
                "/proc/self/mountinfo": mounts(
                    (r"/ /odd\040place rw", "cgroup2 none rw"), ("/ /sys/fs/cgroup/cpu rw", "cgroup cgroup rw,cpu")
                ),
                "/proc/self/cgroup": "3:cpu:/\n0::/u\n",
                "/odd place/u/cpu.max": "6 1",
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "7",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "1",
            },
            6,
        ),
        # no list of mounts: the usual places
        ({"/sys/fs/cgroup/cpu.max": "50000 100000"}, 0.5),
        ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "2", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "1"}, 2),
        # nothing, and nonsense
        ({}, 64),
        *[
            (V2 | {"/proc/self/cgroup": group, "/sys/fs/cgroup/cpu.max": text}, 64)
            for group, text in [
                ("0::/", ""),
                ("0::/", "max"),
                ("0::/", "garbage"),
                ("0::/", "0 100000"),
                ("0::/", "100000 0"),
                ("0::/", "-5 100000"),
                ("0::/", "1e3 100000"),
                ("0::/", "9" * 5000 + " 1"),
                ("0::/", b"\xff\xfe 1"),
                ("nonsense", "max 1"),
            ]
        ],
        ({"/proc/self/mountinfo": "nonsense\n1 2 3\n - \n5 - cgroup2", "/proc/self/cgroup": ":::\n\n0"}, 64),
    ],
)  # fmt: skip
def test_the_least_cpu_quota_of_a_group_and_its_parents_counts(tree, many_cores, files, expected):
    assert machine.cores(tree(files), {}).amount == expected


def test_a_file_that_cannot_be_read_is_no_limit(tree, many_cores):
    root = tree(V2 | {"/proc/self/cgroup": "0::/"})
    (root / "sys/fs/cgroup/cpu.max").mkdir(parents=True)  # reading a directory fails for root, too

    assert machine.cores(root, {}).amount == 64


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SLURM_CPUS_PER_TASK": "3"}, 3),
        ({"SLURM_CPUS_ON_NODE": "5"}, 5),
        ({"SLURM_CPUS_PER_TASK": "3", "SLURM_CPUS_ON_NODE": "5"}, 3),
        ({"SLURM_CPUS_PER_TASK": "2(x3)"}, 2),  # on each of three nodes
        ({"SLURM_CPUS_PER_TASK": "200"}, 64),
        *[({"SLURM_CPUS_PER_TASK": text}, 64) for text in ("", "0", "-1", "many", "2(x", "3,4", "1.5", "٣")],
    ],
)
def test_slurm_gives_a_task_its_cores(tree, many_cores, variables, expected):
    assert machine.cores(tree({}), variables).amount == expected


PHYSICAL = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("files", "variables", "expected"),
    [
        (V2 | {"/proc/self/cgroup": "0::/", "/sys/fs/cgroup/memory.max": "2000000000\n"}, {}, 2e9),
        (V2 | {"/proc/self/cgroup": "0::/", "/sys/fs/cgroup/memory.high": "1000000000\n"}, {}, 1e9),
        (V2 | {"/proc/self/cgroup": "0::/", "/sys/fs/cgroup/memory.max": "max\n"}, {}, PHYSICAL),
        (V2 | {"/proc/self/cgroup": "0::/s/u", "/sys/fs/cgroup/s/memory.max": "700000000"}, {}, 7e8),
        (V1 | {"/sys/fs/cgroup/memory/m/memory.limit_in_bytes": "500000000"}, {}, 5e8),
        (V1 | {"/sys/fs/cgroup/memory/m/memory.limit_in_bytes": "9223372036854771712"}, {}, PHYSICAL),  # no limit
        ({}, {}, PHYSICAL),
        ({}, {"SLURM_MEM_PER_NODE": "512"}, 512 * 2**20),
        ({}, {"SLURM_MEM_PER_NODE": "0"}, PHYSICAL),  # all memory of the node
        ({}, {"SLURM_MEM_PER_NODE": "4G"}, PHYSICAL),
    ],
)
def test_the_least_memory_limit_counts(tree, files, variables, expected):
    assert machine.memory(tree(files), variables).amount == expected


def test_the_limit_of_a_process_on_its_address_space_counts():
    code = "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 * 10**9,) * 2)\n"
    code += "from nasx import machine; print(machine.memory())"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "Limit(amount=3000000000, why='ulimit -v')"


@pytest.fixture
def allowed(monkeypatch, many_cores):
    """Set what this process may use on a machine of 64 cores."""

    def of(cores=64.0, memory=256.0, gpus=0, why=("CPU quota", "memory limit")):
        monkeypatch.setattr(machine, "cores", lambda: machine.Limit(cores, why[0]))
        monkeypatch.setattr(machine, "memory", lambda: machine.Limit(memory * GB, why[1]))
        monkeypatch.setattr(workers, "_count_gpus", lambda: gpus)

    return of


@pytest.mark.parametrize(
    ("limits", "settings", "expected", "note"),
    [
        ({}, {}, 64, ""),
        ({"cores": 0.5}, {}, 1, "1 of 64 cores: CPU quota of 0.5 cores"),
        ({"cores": 1.5}, {}, 1, "1 of 64 cores: CPU quota of 1.5 cores"),
        ({"cores": 2}, {}, 2, "2 of 64 cores: CPU quota of 2 cores"),
        ({"cores": 1}, {}, 1, "1 of 64 cores: CPU quota of 1 core"),
        ({"memory": 2}, {}, 2, "2 of 64 cores: memory limit of 2 GB"),
        ({"memory": 0.3}, {}, 1, "1 of 64 cores: memory limit of 0.3 GB"),
        ({"cores": 4, "memory": 2}, {}, 2, "2 of 64 cores: memory limit of 2 GB"),
        ({"cores": 6}, {"cpus_per_trial": 2}, 3, "6 of 64 cores: CPU quota of 6 cores"),
        ({"cores": 2}, {"cpus_per_trial": 4}, 1, "4 of 64 cores: CPU quota of 2 cores"),
        ({}, {"cpus_per_trial": 3}, 21, ""),  # the 64th core is left over
        # what the user asks for is done
        ({"cores": 2}, {"workers": 2}, 2, ""),
        ({"cores": 2}, {"workers": 8}, 8, "there is room for 2: CPU quota of 2 cores"),
        ({"memory": 2}, {"workers": 3}, 3, "there is room for 2: memory limit of 2 GB"),
        ({}, {"workers": 65}, 65, "there is room for 64: this machine has 64 cores"),
        ({"cores": 3, "why": ("affinity", "memory")}, {"workers": 4}, 4, "there is room for 3: affinity of 3 cores"),
        # GPUs limit, not the cores
        ({"gpus": 1}, {}, 4, ""),
        ({"gpus": 1, "cores": 2}, {}, 2, "2 of 64 cores: CPU quota of 2 cores"),
    ],
)
def test_a_plan_stays_within_the_limits_and_says_which_one(allowed, limits, settings, expected, note):
    allowed(**limits)

    plan = plan_workers("auto", **settings)

    assert (plan.workers, plan.note) == (expected, note)
    assert f"{plan}".endswith(f" ({note})") if note else "room" not in f"{plan}"
    if not settings:  # a serial search has the same number of workers, and so the same results
        assert SerialExecution().plan.workers == expected


def test_limits_of_this_machine_do_not_matter_to_a_cluster(allowed):
    allowed(cores=1)

    plan = RayExecution(device="cpu", workers=40, address="head:6379").plan

    assert (plan.workers, plan.note) == (40, "")


def test_threads_follow_the_quota_unless_the_user_sets_them(monkeypatch):
    monkeypatch.setattr(machine, "affinity", lambda: 8)
    environment: dict[str, str] = {}
    monkeypatch.setattr(os, "environ", environment)

    monkeypatch.setattr(machine, "cores", lambda: machine.Limit(8, "affinity"))
    machine.limit_threads()
    assert environment == {}  # libraries know the affinity

    monkeypatch.setattr(machine, "cores", lambda: machine.Limit(2.5, "CPU quota"))
    machine.limit_threads()
    assert environment == {"OMP_NUM_THREADS": "2"}

    environment["OMP_NUM_THREADS"] = "5"
    machine.limit_threads()
    assert environment == {"OMP_NUM_THREADS": "5"}


def test_images_stay_on_disk_if_they_fill_a_quarter_of_the_allowed_memory(monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: machine.Limit(1000, "memory limit"))

    assert [stays_on_disk(None, n) for n in (250, 251)] == [False, True]


@pytest.mark.parametrize(
    ("memory", "shared", "expected"),
    [
        (100, 200, (30 * GB, "/dev/shm")),  # 0.3 of the memory
        (100, 10, (9.5 * GB, "/dev/shm")),  # 0.95 of what is free
        (2, 0.064, (0.6 * GB, "folder")),  # Docker's default for /dev/shm: the disk
        (2, 0.0, (0.6 * GB, "folder")),
        (0.1, 0.0, (100 * 2**20, "folder")),  # Ray's least, with room to spare
    ],
)
def test_the_shared_data_fit_the_memory_and_dev_shm(monkeypatch, memory, shared, expected):
    monkeypatch.setattr(machine, "memory", lambda: machine.Limit(memory * GB, "memory limit"))
    monkeypatch.setattr(ray, "free_bytes", lambda place: int(shared * GB))

    assert ray._object_store("folder") == {"object_store_memory": expected[0], "_plasma_directory": expected[1]}
