#!/bin/sh
# First boot: installs AWS's SSM agent, which Debian does not package, if AWS has signed it and it is the version asked
# for. What this prints is in the console log; an error is one of `cloud-init status`, too.
#
#   install_ssm_agent.sh FOLDER VERSION KEYRING    FOLDER: the URL that holds the package and its signature
set -eu
url=$1 version=$2 keyring=$3
package=amazon-ssm-agent.deb
die() { printf 'install_ssm_agent: %s; Session Manager does not reach this host\n' "$*" >&2; exit 1; }

cd "$(mktemp -d)"
for file in "$package" "$package.sig"; do
  # Eight times in four minutes: the network of a new environment may come up after its hosts.
  curl --fail --silent --show-error --location --connect-timeout 10 --retry 8 --retry-all-errors \
    --output "$file" "$url/$file" || die "cannot fetch $url/$file"
done

# Not Debian's own sqv: it refuses AWS's key, which certifies itself by SHA-1. The package is signed by SHA-256.
gpgv --keyring "$keyring" "$package.sig" "$package" || die "$url/$package is not signed by AWS"
# An older version is signed, too.
found=$(dpkg-deb --field "$package" Version)
[ "${found%-*}" = "$version" ] || die "$url/$package is version $found, not $version"

export DEBIAN_FRONTEND=noninteractive
apt-get install --yes --no-install-recommends "./$package" || die "cannot install $package $version"
systemctl enable --now amazon-ssm-agent || die "the agent does not start"
