"""Misleading whoever takes the results: what is left in the folder isn't what it seems."""

from tests.control.sandbox.attacks.attack import Attack

RESULTS = [
    Attack("a link to a secret", "import os\nos.symlink(HOST['secret'], 'result')", alone=True, leaves=True),
    Attack(
        "a link to a secret, relative",
        "import os\nos.symlink('../' * 20 + HOST['secret'][1:], 'result')",
        alone=True,
        leaves=True,
    ),
    Attack(
        "a folder that is a link",
        "import os\nos.symlink(os.path.dirname(HOST['secret']), 'folder')",
        alone=True,
        leaves=True,
    ),
    Attack("a hard link to a secret", "import os\nos.link(HOST['secret'], 'result')", alone=True, leaves=True),
    Attack(
        "a link within the folder",
        "import os\nopen('a', 'w').write('planted')\nos.symlink('a', 'result')",
        alone=True,
        leaves=True,
    ),
    Attack("a sparse file, larger than allowed", "open('s', 'wb').truncate(30 << 20)", alone=True, leaves=True),
    Attack(
        "sparse files, larger than allowed together",
        "for i in range(4): open(f's{i}', 'wb').truncate(15 << 20)",
        alone=True,
        leaves=True,
    ),
    Attack("a pipe that blocks its reader", "import os\nos.mkfifo('p')", alone=True, safe=False, leaves=True),
    Attack("a name with an escape", "open('a\\x1b[2Jb', 'w').close()", alone=True, leaves=True),
    Attack("a name with a new line", "open('a\\nok: b', 'w').close()", alone=True, leaves=True),
    Attack("a name that turns around", "open('a\\u202etxt.exe', 'w').close()", alone=True, leaves=True),
    Attack("a name that climbs elsewhere", "open('..\\\\..\\\\evil', 'w').close()", alone=True, leaves=True),
    Attack(
        "folders without end",
        "import os\nfor _ in range(60):\n    os.mkdir('d')\n    os.chdir('d')\nopen('x', 'w').write('deep')",
        alone=True,
        leaves=True,
    ),
]
