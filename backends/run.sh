# Starts one run and outlives its kernel.
#
#   sh run.sh FOLDER BOOT CWD KIB [CGROUP.PROCS...] -- PROGRAM [ARGUMENT...]
#
# Enters its control groups before anything else runs, so that no process of the tree is ever outside.
# FOLDER/pid says who this is (boot id, then pid; runs.py says why not the start time); FOLDER/exit says
# how the program ended.
# KIB limits the address space, 0 does not; "direct": the program's name is no builtin of this shell,
# so that it can be run by vfork(2), which copies nothing.
# Signals are caught, not ignored: caught ones are back at their default in the program, and a TERM to
# the whole tree does not keep this shell from noting the exit status. Builtins only: no fork, no PATH.
trap : HUP INT QUIT PIPE ALRM TERM USR1 USR2 VTALRM PROF XCPU XFSZ
_agenttop_folder=$1 _agenttop_boot=$2 _agenttop_cwd=$3 _agenttop_kib=$4
shift 4

_agenttop_refuse() {
    echo "agenttop: $1" >&2
    echo "$2" >"$_agenttop_folder/exit"
    exit "$2"
}

while [ "$1" != -- ]; do
    echo 0 >"$1" || _agenttop_refuse "cannot enter the control group $1" 125
    shift
done
shift

printf '%s\n%s\n' "$_agenttop_boot" $$ >"$_agenttop_folder/pid"
cd -- "$_agenttop_cwd" || _agenttop_refuse "cannot enter the folder $_agenttop_cwd" 126

if [ "$_agenttop_kib" = direct ]; then
    "$@"
else
    (
        [ "$_agenttop_kib" = 0 ] || ulimit -v "$_agenttop_kib" || exit 125
        exec "$@"
    )
fi
_agenttop_code=$?
echo "$_agenttop_code" >"$_agenttop_folder/exit"
# Whoever copies a terminal cannot see its end: this string, which terminals leave out, is the last of it.
[ ! -t 1 ] || printf '\033^agenttop:%s\033\134' "$AGENTTOP_RUN"
exit "$_agenttop_code"
