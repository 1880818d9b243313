# Sourced by the other scripts: a virtual environment with nasx and the tested versions of its dependencies.
#
#   use_environment EXTRA...    creates .venv if there is none, installs nasx with the extras if they are missing,
#                               and puts its programs first on the PATH
#
# PYTHON: interpreter that creates the environment (3.11 or newer). NASX_VENV: directory to use instead of .venv.

use_environment() {
    local venv="${NASX_VENV:-.venv}" extras stamp
    extras="$(IFS=,; echo "$*")"
    stamp="$venv/.nasx-installed-${extras:-plain}"
    if [ ! -x "$venv/bin/python" ]; then
        local python="${PYTHON:-$(command -v python3.11 || command -v python3 || true)}"
        if ! "${python:-false}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "nasx needs Python 3.11 or newer. Set PYTHON=/path/to/python." >&2
            return 2
        fi
        echo "Creating the environment $venv ..." >&2
        "$python" -m venv "$venv"
    fi
    if [ ! -e "$stamp" ] || [ pyproject.toml -nt "$stamp" ] || [ scripts/constraints.txt -nt "$stamp" ]; then
        echo "Installing nasx${extras:+ with $extras} (takes some minutes the first time) ..." >&2
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
            --constraint scripts/constraints.txt --editable ".${extras:+[$extras]}"
        touch "$stamp"
    fi
    PATH="$(cd "$venv" && pwd)/bin:$PATH"
}
