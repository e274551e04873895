#!/bin/sh
# proxies.sh DEST prepares the proxies that speed compares with, from the
# ordinary registries, and does nothing where they are there. One that cannot
# be had is left out.
set -u
dest=${1:?usage: proxies.sh DEST}
mcp_proxy=0.13.0 # PyPI
supergateway=4.0.0 # npm
mkdir -p "$dest"

if [ "$(cat "$dest/mcp-proxy/.version" 2>/dev/null)" != "$mcp_proxy" ]; then
	rm -rf "$dest/mcp-proxy"
	python3 -m venv "$dest/mcp-proxy" &&
		"$dest/mcp-proxy/bin/pip" install --quiet --disable-pip-version-check --only-binary=:all: "mcp-proxy==$mcp_proxy" &&
		echo "$mcp_proxy" >"$dest/mcp-proxy/.version" || rm -rf "$dest/mcp-proxy"
fi
if [ "$(cat "$dest/supergateway/.version" 2>/dev/null)" != "$supergateway" ]; then
	rm -rf "$dest/supergateway"
	npm install --prefix "$dest/supergateway" --ignore-scripts --no-audit --no-fund --loglevel=error "supergateway@$supergateway" &&
		echo "$supergateway" >"$dest/supergateway/.version" || rm -rf "$dest/supergateway"
fi
exit 0
