"""Taking more than the policy gives: memory, processors, time, files, processes, output."""

from tests.control.sandbox.attacks.attack import Attack

RESOURCES = [
    Attack("memory of one process", "x = b'a' * (600 << 20)\nprint('SUCCEEDED')", alone=True, ends_by="memory"),
    Attack(
        "memory spread over forks",
        """
import os
told, tell = os.pipe()
for _ in range(6):
    if os.fork() == 0:
        x = b'a' * (100 << 20)
        os.write(tell, b'.')
        os.read(told, 0)
        import time
        time.sleep(20)
got = b''
while len(got) < 6:
    got += os.read(told, 1)
print('SUCCEEDED', flush=True)
os.killpg(0, 9)
""",
        alone=True,
        ends_by="memory",
    ),
    Attack(
        "memory by shared mappings",
        "import mmap\nm = mmap.mmap(-1, 600 << 20)\nfor _ in range(600): m.write(bytes(1 << 20))\nprint('SUCCEEDED')",
        alone=True,
        ends_by="memory",
    ),
    Attack(
        "memory by System V segments",
        "from ctypes import CDLL\nif CDLL(None).shmget(0, 1 << 20, 0o600) >= 0: print('SUCCEEDED')",
    ),
    Attack(
        "memory by memfd",
        "import os\nf = os.memfd_create('x')\nos.write(f, b'a' * (1 << 20))\nprint('SUCCEEDED')",
    ),
    Attack(
        "memory by /dev/shm",
        "with open('/dev/shm/raysafe-attack', 'wb') as f:\n"
        "    import os\n    os.unlink(f.name)\n    f.write(b'a' * (40 << 20))\n    f.flush()\nprint('SUCCEEDED')",
        alone=True,
    ),
    Attack(
        "processor time of one process",
        "import time\nwhile time.process_time() < 0.7: pass\nprint('SUCCEEDED')",
        alone=True,
        ends_by="cpu",
    ),
    Attack(
        "processor time spread over forks",
        """
import os, time
children = []
for _ in range(5):
    child = os.fork()
    if child == 0:
        while time.process_time() < 0.2: pass
        os._exit(0)
    children.append(child)
if all(os.waitpid(child, 0)[1] == 0 for child in children): print('SUCCEEDED')
""",
        alone=True,
        ends_by="cpu",
    ),
    Attack("sleeping on and on", "import time\ntime.sleep(1)\nprint('SUCCEEDED')", alone=True, ends_by="wall"),
    Attack(
        "stopping where only SIGCONT helps",
        "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
        alone=True,
        safe=False,
        ends_by="wall",
    ),
    Attack(
        "refusing to be ended",
        "import signal, time\nfor s in range(1, 32):\n    if s not in (9, 19): signal.signal(s, signal.SIG_IGN)\n"
        "time.sleep(1)\nprint('SUCCEEDED')",
        alone=True,
        ends_by="wall",
    ),
    Attack(
        "one file too large",
        "with open('big', 'wb') as f: f.write(b'a' * (30 << 20))\nprint('SUCCEEDED')",
        alone=True,
        ends_by="disk",
    ),
    Attack(
        "many files too large together",
        "for i in range(15):\n    with open(f'b{i}', 'wb') as f: f.write(b'a' * (2 << 20))\nprint('SUCCEEDED')",
        alone=True,
        ends_by="disk",
    ),
    Attack(
        "files deleted but held open",
        "import os\nheld = []\nfor i in range(15):\n    f = open('x', 'wb', 0)\n    held.append(f)\n"
        "    os.unlink('x')\n"
        "    for _ in range(32): assert f.write(b'a' * 65536) == 65536\nprint('SUCCEEDED')",
        alone=True,
    ),
    Attack(
        "too many files",
        "for i in range(400): open(f'n{i}', 'w').close()\nprint('SUCCEEDED')",
        alone=True,
        ends_by="disk",
    ),
    Attack(
        "too many folders",
        "import os\nfor i in range(400): os.mkdir(f'n{i}')\nprint('SUCCEEDED')",
        alone=True,
        ends_by="disk",
    ),
    Attack("a sparse file", "with open('sparse', 'wb') as f: f.truncate(1 << 30)\nprint('SUCCEEDED')"),
    Attack("a fork bomb", "import os\nwhile True:\n    os.fork()", alone=True, safe=False, ends_by="pids"),
    Attack(
        "too many processes",
        """
import os
children = []
for _ in range(60):
    child = os.fork()
    if child == 0:
        import time
        time.sleep(20)
    children.append(child)
for child in children: os.kill(child, 9)
print('SUCCEEDED')
""",
        alone=True,
        ends_by="pids",
    ),
    Attack(
        "too many threads",
        """
import threading
go = threading.Event()
threads = [threading.Thread(target=go.wait) for _ in range(60)]
try:
    for thread in threads: thread.start()
    print('SUCCEEDED')
finally:
    go.set()
""",
        alone=True,
        ends_by="pids",
    ),
    Attack(
        "zombies that are never waited for",
        "import os\nfor _ in range(60):\n    if os.fork() == 0: os._exit(0)\nprint('SUCCEEDED')",
        alone=True,
        ends_by="pids",
    ),
    Attack("too much on stdout", "print('a' * (2 << 20))\nprint('SUCCEEDED')", alone=True, ends_by="output"),
    Attack(
        "too much on stderr",
        "import sys\nprint('a' * (2 << 20), file=sys.stderr)\nprint('SUCCEEDED')",
        alone=True,
        ends_by="output",
    ),
    Attack("output without end", "while True: print('a' * 65536)", alone=True, safe=False, ends_by="output"),
    Attack(
        "too many open files",
        "import os\nheld = [os.open('/dev/null', os.O_RDONLY) for _ in range(2000)]\nprint('SUCCEEDED')",
    ),
    Attack(
        "raising its own limits",
        "import resource as r\nr.setrlimit(r.RLIMIT_FSIZE, (r.RLIM_INFINITY, r.RLIM_INFINITY))\nprint('SUCCEEDED')",
    ),
    Attack("a core dump", "import resource as r\nr.setrlimit(r.RLIMIT_CORE, (1 << 30, 1 << 30))\nprint('SUCCEEDED')"),
    Attack("priority over everyone", "import os\nos.setpriority(os.PRIO_PROCESS, 0, -20)\nprint('SUCCEEDED')"),
    Attack(
        "real-time scheduling",
        "import os\nos.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))\nprint('SUCCEEDED')",
    ),
]
