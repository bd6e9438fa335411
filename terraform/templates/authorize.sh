#!/bin/sh
# Lets one SSH key in until a given time, and says which keys the host itself has. Run Command puts the parameters in,
# having checked them (access.tf), and runs this as root. Lines of others, and keys of ours that are still valid, stay.
set -eu
public_key='{{ publicKey }}'
valid_until='{{ validUntil }}'
user='admin'
mark='lastro-controller'

home=$(getent passwd "$user" | cut -d: -f6)
group=$(id -gn "$user")
file=$home/.ssh/authorized_keys
umask 077

# Two controllers may come at the same time.
exec 9>/run/lock/lastro-authorize
flock --wait 30 9

install -d -o "$user" -g "$group" -m 0700 "$home/.ssh"
touch "$file"
new=$(mktemp "$file.XXXXXX")
trap 'rm -f "$new"' EXIT
awk -v now="$(date -u +%Y%m%d%H%M%S)" -v key="$public_key" -v mark="$mark" '
  $NF != mark { print; next }
  index($0, key) == 0 && match($0, /expiry-time="[0-9]+Z"/) && substr($0, RSTART + 13, 14) + 0 > now + 0
' "$file" >"$new"
printf 'expiry-time="%s",restrict,pty,port-forwarding %s %s\n' "$valid_until" "$public_key" "$mark" >>"$new"
chown "$user:$group" "$new"
mv "$new" "$file"

for key in /etc/ssh/ssh_host_*_key.pub; do
  [ -f "$key" ] || { echo "this host has no SSH host keys in /etc/ssh" >&2; exit 1; }
  cut -d' ' -f1,2 "$key"
done
