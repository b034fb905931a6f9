"""Reading what is none of the code's business, and writing where it would last."""

from tests.control.sandbox.attacks.attack import Attack

SECRETS = [
    Attack("its own environment", "import os\nif 'PLANTED_TOKEN' in os.environ: print('SUCCEEDED')"),
    Attack(
        "the environment of a process of the host",
        "if b'PLANTED_TOKEN' in open(f'/proc/{HOST[\"victim\"]}/environ', 'rb').read(): print('SUCCEEDED')",
    ),
    Attack(
        "the environment of any process",
        """
import glob
for path in glob.glob('/proc/[0-9]*/environ'):
    try:
        if b'PLANTED_TOKEN' in open(path, 'rb').read(): print('SUCCEEDED')
    except OSError: pass
""",
    ),
    Attack("the environment of process 1", "open('/proc/1/environ', 'rb').read()\nprint('SUCCEEDED')", safe=False),
    Attack("a secret file", "if open(HOST['secret']).read() == 'planted': print('SUCCEEDED')"),
    Attack("a home folder", "import os\nif len(os.listdir(HOST['home'])) > 2: print('SUCCEEDED')"),
    Attack("the project's folder", "import os\nif 'tests' in os.listdir(HOST['project']): print('SUCCEEDED')"),
    Attack("passwords of the host", "if 'root:' in open('/etc/shadow').read(): print('SUCCEEDED')"),
    Attack("accounts of the host", "if 'daemon:' in open('/etc/passwd').read(): print('SUCCEEDED')"),
    Attack("settings of the host", "if len(__import__('os').listdir('/etc')) > 20: print('SUCCEEDED')"),
    Attack("the host's name", "import socket\nif socket.gethostname() == HOST['name']: print('SUCCEEDED')"),
    Attack(
        "the secret file by a link",
        "import os\nos.symlink(HOST['secret'], 'way')\nf = open('way')\nif f.read() == 'planted': print('SUCCEEDED')",
    ),
    Attack(
        "the secret file by another process's root",
        "if open(f'/proc/{HOST[\"parent\"]}/root' + HOST['secret']).read() == 'planted': print('SUCCEEDED')",
    ),
    Attack(
        "the secret file by process 1's root",
        "if open('/proc/1/root' + HOST['secret']).read() == 'planted': print('SUCCEEDED')",
        safe=False,
    ),
    Attack(
        "the secret file by climbing",
        "if open('../' * 20 + HOST['secret'].lstrip('/')).read() == 'planted': print('SUCCEEDED')",
    ),
    Attack(
        "files that were left open for it",
        "import os\nif len(os.listdir('/proc/self/fd')) > 4: print('SUCCEEDED')",
        safe=False,
    ),
    Attack(
        "the host's disk",
        "import glob\nfor d in glob.glob('/dev/[sv]d[a-z]'): open(d, 'rb').read(512); print('SUCCEEDED')",
        safe=False,
    ),
    Attack("the kernel's command line", "if open('/proc/cmdline').read(): print('SUCCEEDED')"),
    Attack("the kernel's symbols", "if open('/proc/kallsyms').read(64): print('SUCCEEDED')"),
    Attack("hardware in /sys", "import os\nif os.listdir('/sys'): print('SUCCEEDED')"),
    Attack(
        "a file of the host's, overwritten", "with open(HOST['target'], 'r+') as f: f.write('mine')\nprint('SUCCEEDED')"
    ),
    Attack(
        "a package of the host's, poisoned",
        "import os, tempfile, pydantic\n"
        "f, path = tempfile.mkstemp(dir=os.path.dirname(pydantic.__file__))\nos.unlink(path)\nprint('SUCCEEDED')",
    ),
    Attack(
        "a program of the host's, replaced",
        "import os\nos.close(os.open('/usr/bin/env', os.O_WRONLY))\nprint('SUCCEEDED')",
    ),
    Attack("the mode of a device", "import os\nos.chmod('/dev/null', 0o666)\nprint('SUCCEEDED')"),
    Attack(
        "the sandbox's own code, rewritten",
        "open('/run/raysafe/keeper.py', 'a')\nprint('SUCCEEDED')",
        safe=False,
    ),
]
