package plan

import "github.com/casemate/casemate/internal/codec"

// Encode returns the canonical form of p.
func (p *Plan) Encode() []byte {
	w := &codec.Writer{}
	w.Uint(Version)
	w.String(p.Host.Records)
	w.String(p.Host.Store)
	w.Strings(p.Host.AllowDegraded)
	w.Strings(p.Host.Without)
	codec.List(w, p.Guests, func(g Guest) { g.encode(w) })
	return w.B
}

func (g *Guest) encode(w *codec.Writer) {
	for _, s := range []string{g.Tool, g.Digest, g.Runner, g.Function, g.Stdin, g.Interpreter, g.Cwd} {
		w.String(s)
	}
	codec.List(w, g.Command, func(a Arg) { w.String(a.Text); w.String(a.Name) })
	for _, ss := range [][]string{g.Options, g.Preload, g.Env, g.DenySyscalls} {
		w.Strings(ss)
	}
	codec.List(w, g.Mounts, func(m Mount) {
		w.String(m.Source)
		w.String(m.At)
		w.Bool(m.Write)
		w.Bool(m.Execute)
		w.Bool(m.Prefix)
		w.Strings(m.Names)
		w.Strings(m.Pinned)
	})
	w.Bool(g.Loopback)
	w.Bool(g.HostNetwork)
	w.Bool(g.Session)
	w.Bool(g.Fork)
	w.Bool(g.Inputs)
	w.String(g.Backend)
	w.Strings(g.Layers)
	w.String(g.Runtime)
	w.String(g.Version)
	w.String(g.File)
	w.String(g.Bundle)
	w.String(g.Module)
	for _, n := range []int64{g.MilliCPU, g.Memory, g.Disk, g.Processes, g.Output, g.Timeout} {
		w.Int(n)
	}
}

// Decode is the inverse of Encode.
func Decode(b []byte) (*Plan, error) {
	r := &codec.Reader{B: b}
	if r.Uint() != Version {
		return nil, codec.ErrMalformed
	}
	p := &Plan{}
	p.Host.Records = r.String()
	p.Host.Store = r.String()
	p.Host.AllowDegraded = r.Strings()
	p.Host.Without = r.Strings()
	p.Guests = codec.ReadList(r, func() Guest { return decodeGuest(r) })
	if err := r.End(); err != nil {
		return nil, err
	}
	return p, nil
}

func decodeGuest(r *codec.Reader) (g Guest) {
	for _, s := range []*string{&g.Tool, &g.Digest, &g.Runner, &g.Function, &g.Stdin, &g.Interpreter, &g.Cwd} {
		*s = r.String()
	}
	g.Command = codec.ReadList(r, func() Arg { return Arg{Text: r.String(), Name: r.String()} })
	for _, ss := range []*[]string{&g.Options, &g.Preload, &g.Env, &g.DenySyscalls} {
		*ss = r.Strings()
	}
	g.Mounts = codec.ReadList(r, func() Mount {
		return Mount{Source: r.String(), At: r.String(), Write: r.Bool(), Execute: r.Bool(), Prefix: r.Bool(), Names: r.Strings(), Pinned: r.Strings()}
	})
	g.Loopback = r.Bool()
	g.HostNetwork = r.Bool()
	g.Session = r.Bool()
	g.Fork = r.Bool()
	g.Inputs = r.Bool()
	g.Backend, g.Layers, g.Runtime, g.Version, g.File, g.Bundle, g.Module = r.String(), r.Strings(), r.String(), r.String(), r.String(), r.String(), r.String()
	for _, n := range []*int64{&g.MilliCPU, &g.Memory, &g.Disk, &g.Processes, &g.Output, &g.Timeout} {
		*n = r.Int()
	}
	return g
}

// EncodeGuest returns the canonical form of one guest.
func EncodeGuest(g Guest) []byte {
	w := &codec.Writer{}
	g.encode(w)
	return w.B
}

// DecodeGuest is the inverse of EncodeGuest.
func DecodeGuest(b []byte) (Guest, error) {
	r := &codec.Reader{B: b}
	g := decodeGuest(r)
	return g, r.End()
}
