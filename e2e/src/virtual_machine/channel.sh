# Runs what the machine that emulates this one asks for, over the virtio port named `channel`: one request a line, its
# number and a shell script with its control bytes escaped as printf's %b has them. The answer is a line with the number,
# the exit code and the lengths of stdout and stderr, and then those. Nothing but the script itself starts a process here:
# under emulation that is what takes time. Output ends at its first NUL byte.
export LC_ALL=C
for port in /sys/class/virtio-ports/*; do
    read -r name <"$port/name"
    [ "$name" != channel ] || exec 3<>"/dev/${port##*/}"
done
while read -r -u 3 number encoded; do
    printf -v script '%b' "$encoded"
    (
        exec 3>&- </dev/null >/run/channel.stdout 2>/run/channel.stderr
        set -e
        eval "$script"
    )
    code=$?
    IFS= read -r -d '' stdout </run/channel.stdout
    IFS= read -r -d '' stderr </run/channel.stderr
    printf '%s %s %s %s\n%s%s' "$number" "$code" "${#stdout}" "${#stderr}" "$stdout" "$stderr" >&3
done
