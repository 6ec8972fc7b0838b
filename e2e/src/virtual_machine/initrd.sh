#!/busybox sh
# Process 1 until the disk is there. What cannot be loaded is missed at the next line that needs it, and that ends the
# machine: process 1 that exits is a panic.
set -e
/busybox mount -t devtmpfs dev /dev
for module in $(/busybox cat /modules); do
    /busybox insmod "/$module"
done
until [ -b /dev/vda ]; do
    /busybox usleep 10000
done
/busybox mount -t ext4 /dev/vda /root
/busybox mount -o move /dev /root/dev
exec /busybox switch_root /root /sbin/init
