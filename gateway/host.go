package gateway

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// hostAllowed says whether the Host header of r names this server: a loopback
// name where the connection came in by loopback, the address that it came in
// by, each with the port that it came in by, or a configured name.
//
// An address can never be that of a rebinding page, which needs a name.
func hostAllowed(r *http.Request, names []string) bool {
	for _, n := range names {
		if strings.EqualFold(r.Host, n) {
			return true
		}
	}
	host, port := splitHost(r.Host)
	for _, n := range names {
		if !strings.Contains(n, ":") && strings.EqualFold(host, n) {
			return true // a name without a port is that name on any port
		}
	}
	switch local := r.Context().Value(http.LocalAddrContextKey).(type) {
	case *net.UnixAddr:
		return r.Host == "localhost"
	case *net.TCPAddr:
		here := local.AddrPort()
		if port != here.Port() {
			return false
		}
		if strings.EqualFold(host, "localhost") {
			return here.Addr().Unmap().IsLoopback()
		}
		addr, err := netip.ParseAddr(host)
		if err != nil {
			return false
		}
		return addr.Unmap() == here.Addr().Unmap().WithZone("")
	}
	return false
}

// splitHost parses host[:port] strictly; the port is 80 where there is none,
// and 0 where it is malformed.
func splitHost(s string) (host string, port uint16) {
	host = s
	port = 80
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		host = s[:i]
		port = parsePort(s[i+1:])
	}
	if in, ok := strings.CutPrefix(host, "["); ok {
		in, ok = strings.CutSuffix(in, "]")
		if a, err := netip.ParseAddr(in); !ok || err != nil || !a.Is6() {
			return host, 0
		}
		return in, port
	}
	if strings.Contains(host, ":") {
		return host, 0
	}
	return host, port
}

func parsePort(s string) (n uint16) {
	if s == "" || len(s) > 5 || s[0] == '0' {
		return 0
	}
	v := 0
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0
		}
		v = v*10 + int(c-'0')
	}
	if v > 65535 {
		return 0
	}
	return uint16(v)
}

// originAllowed says whether r was sent by no page at all, or by one that this
// server itself served. It wants an allowed Host.
func originAllowed(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
	default:
		return false
	}
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return true
	}
	if len(origins) > 1 {
		return false
	}
	u, err := url.Parse(origins[0])
	if err != nil || u.Host == "" || origins[0] != u.Scheme+"://"+u.Host {
		return false
	}
	switch u.Scheme {
	case "http", "https":
		return strings.EqualFold(u.Host, r.Host)
	}
	return false
}
