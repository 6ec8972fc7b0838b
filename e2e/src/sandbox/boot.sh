# Turns a fresh set of namespaces into a node and becomes its systemd. Runs as process 1 of the new pid namespace, already
# in the instance's cgroup. Arguments: the instance's directory, the lower layer, then HOST INSIDE ro|rw for each bind.
set -eu
instance=$1 lower=$2
shift 2
root=$instance/root

# "volatile" leaves out syncs to disk, which an instance does not need; kernels before 5.10 do not know it.
layers=lowerdir=$lower,upperdir=$instance/upper,workdir=$instance/work
mount -t overlay sandbox -o "$layers,volatile" "$root" 2>/dev/null || mount -t overlay sandbox -o "$layers" "$root"
# On the disk itself: a container runtime inside stacks its own overlays below /var, and overlay refuses that on overlay.
mount --bind "$instance/var" "$root/var"

# Both whole and writable, as on a real node: the kernel refuses new proc and sysfs mounts in user namespaces where any
# part of these is covered.
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t sysfs -o nosuid,nodev,noexec sysfs "$root/sys"
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs "$root/run"
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "$root/tmp"

dev=$root/dev
mount -t tmpfs -o nosuid,mode=755 tmpfs "$dev"
mkdir "$dev/pts" "$dev/shm" "$dev/net"
mount -t devpts -o nosuid,noexec,newinstance,gid=5,mode=620,ptmxmode=666 devpts "$dev/pts"
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "$dev/shm"
for device in null zero full random urandom tty net/tun fuse; do
    [ -e "/dev/$device" ] || continue
    : >"$dev/$device"
    mount --bind "/dev/$device" "$dev/$device"
done
: >"$dev/console"
mount --bind /dev/null "$dev/console"
ln -s /proc/self/fd "$dev/fd"
ln -s fd/0 "$dev/stdin"
ln -s fd/1 "$dev/stdout"
ln -s fd/2 "$dev/stderr"
ln -s pts/ptmx "$dev/ptmx"

while [ $# -ge 3 ]; do
    host=$1 inside=$root/${2#/} mode=$3
    shift 3
    if [ -d "$host" ]; then
        mkdir -p "$inside"
    else
        mkdir -p "$(dirname "$inside")"
        [ -e "$inside" ] || : >"$inside"
    fi
    mount --bind "$host" "$inside"
    [ "$mode" = rw ] || mount -o remount,bind,ro "$inside"
done

cd "$root"
mkdir run/machine
pivot_root . run/machine
cd /
umount -l /run/machine
rmdir /run/machine
# systemd leaves propagation alone in a container, but mounts that pods share need what a real node has.
mount --make-rshared /
exec env -i container=systemk-sandbox PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd
