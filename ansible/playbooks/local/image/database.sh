#!/bin/sh
# PostgreSQL as RDS runs it: TLS is forced, and the certificate names the endpoint (DATABASE_ADDRESS).
# The superuser exists on this machine's socket only, as RDS keeps its own; the master user is made by the playbook.
set -eu
bin=/usr/lib/postgresql/17/bin
home=/var/lib/database
data=$home/data
tls=$home/tls
as_postgres="setpriv --reuid=postgres --regid=postgres --init-groups"
install -d -o postgres /var/run/postgresql

if [ ! -f "$tls/ca.pem" ]; then
  rm -rf "$tls.new" && mkdir -p "$tls.new" && cd "$tls.new"
  openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj "/CN=Lastro local database CA" \
    -keyout ca.key -out ca.pem 2>/dev/null
  mv "$tls.new" "$tls"
fi
# The endpoint's name may change when Terraform replaces the database.
if [ "$(cat "$tls/address" 2>/dev/null)" != "$DATABASE_ADDRESS" ]; then
  cd "$tls"
  openssl req -newkey rsa:2048 -nodes -subj "/CN=$DATABASE_ADDRESS" -keyout server.key -out server.csr 2>/dev/null
  printf 'subjectAltName=DNS:%s\n' "$DATABASE_ADDRESS" >server.ext
  openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 -extfile server.ext \
    -out server.pem 2>/dev/null
  rm server.csr server.ext
  printf '%s' "$DATABASE_ADDRESS" >address
fi
chmod 755 "$tls" "$home"
chmod 600 "$tls"/*.key
chown postgres "$tls/server.key"

if [ ! -f "$data/PG_VERSION" ]; then
  # A first start that was cut short leaves no half-made cluster.
  rm -rf "$data.new" && install -d -o postgres -m 0700 "$data.new"
  $as_postgres "$bin/initdb" -D "$data.new" --auth-local=peer --encoding=UTF8 --locale=C.UTF-8 \
    --data-checksums >/dev/null
  printf 'local all postgres peer\nhostssl all all all scram-sha-256\n' >"$data.new/pg_hba.conf"
  mv "$data.new" "$data"
fi

cd "$data"
exec $as_postgres "$bin/postgres" -D "$data" -c listen_addresses='*' -c ssl=on \
  -c ssl_cert_file="$tls/server.pem" -c ssl_key_file="$tls/server.key" -c password_encryption=scram-sha-256 \
  -c unix_socket_directories=/var/run/postgresql -c shared_buffers=128MB -c log_destination=stderr
