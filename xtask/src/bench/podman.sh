# The shell that runs podman, as process 1 of its pid namespace. Arguments: the state directory, a name for its cgroups.
state=$1 group=$2
exec 3>&1 1>&2
cd "$state" || exit 1

if [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then
    # An own child in each v1 hierarchy, and a cgroup namespace that begins there.
    # Read whole before anything moves: the file is this process's own, and its lines would shift under the reader.
    groups=$(cat /proc/self/cgroup)
    views=
    while IFS=: read -r number controllers path; do
        [ "$number" != 0 ] && [ -n "$controllers" ] || continue
        name=${controllers#name=}
        child=/sys/fs/cgroup/$name${path%/}/$group
        [ -d "/sys/fs/cgroup/$name" ] && mkdir -p "$child" || continue
        case $name in *cpuset*)
            for file in cpuset.cpus cpuset.mems; do cat "/sys/fs/cgroup/$name$path/$file" >"$child/$file"; done ;;
        esac
        echo 0 >"$child/cgroup.procs" || continue
        views="$views $name"
    done <<<"$groups"
    export views
    # Never a change below the machine's own mount: a directory removed there is unmounted for everybody.
    enter='mount -t tmpfs tmpfs /sys/fs/cgroup
    for name in $views; do
        mkdir "/sys/fs/cgroup/$name"
        option=$name; [ "$name" != systemd ] || option=none,name=systemd
        mount -t cgroup -o "$option" cgroup "/sys/fs/cgroup/$name"
    done'
else
    enter=:
fi

serve='
podman() { command podman --root "$PWD/root" --runroot "$PWD/runroot" --cgroup-manager cgroupfs --runtime crun \
    --events-backend none --storage-driver overlay --log-level warn "$@" </dev/null; }
image() {
    # A shell, sleep and what they are linked with; ldd names each program, too.
    files=$(chroot "$1" ldd /bin/bash /bin/sleep | grep -o "/[^ :]*" | sort -u)
    tar -C "$1" --hard-dereference -hc $(for file in $files; do echo ".$file"; done) >image.tar || return
    command podman --root "$PWD/root" --runroot "$PWD/runroot" --storage-driver overlay import image.tar \
        localhost/systemk-bench:latest
}
while read -r command argument; do
    case $command in
        image) image "$argument" ;;
        secret) podman secret create $argument ;;
        play) podman kube play "$argument" ;;
        down) podman kube down "$argument" ;;
    esac
    echo "done $?" >&3
done
podman kill --all; podman rm --all --force --time 0'
# Process 1 stays, so that the namespace lasts as long as its stdin.
unshare --cgroup --mount bash -c "$enter
$serve"
