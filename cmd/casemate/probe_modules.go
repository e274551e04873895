package main

// wasmTools are the modules of the probe by the names of their tools.
func wasmTools() map[string][]byte {
	build := func(f func(*wasmCode)) []byte {
		c := &wasmCode{}
		f(c)
		return c.module("")
	}
	const create, trunc, all = 1, 8, 0x1fffffff
	return map[string][]byte{
		"files": build(func(c *wasmCode) {
			for fd := int64(0); fd < 8; fd++ {
				for _, p := range []string{"etc/shadow", "/etc/passwd", "../../../../etc/passwd", "../vault/shadow"} {
					c.open(fd, p, 0, 2)
				}
			}
		}),
		"preopens": build(func(c *wasmCode) { // their names, 32 bytes each
			for fd := range int64(wasmFolders) {
				c.invoke("fd_prestat_dir_name", 3+fd, wasmAnswer+32*fd, 32)
				c.op(0x1a)
				for n := int64(31); n > 0; n-- { // of a name of n bytes alone
					c.invoke("fd_prestat_dir_name", 3+fd, wasmAnswer+32*fd, n)
					c.op(0x1a)
				}
			}
			c.said = 32 * wasmFolders
		}),
		"fds": build(func(c *wasmCode) {
			for fd := int64(3 + wasmFolders); fd < 64; fd++ {
				c.try("fd_prestat_get", fd, wasmScratch)
				c.try("fd_read", fd, wasmVector, 0, wasmScratch)
			}
		}),
		"environ": build(func(c *wasmCode) {
			c.invoke("environ_get", wasmScratch, wasmAnswer)
			c.op(0x1a)
			c.said = 2048
		}),
		"sockets": build(func(c *wasmCode) {
			for fd := int64(0); fd < 16; fd++ {
				c.try("sock_accept", fd, 0, wasmScratch)
				c.try("sock_send", fd, wasmVector, 0, 0, wasmScratch)
			}
		}),
		"neighbours": build(func(c *wasmCode) { // of the folder granted
			for fd := range int64(wasmFolders) {
				for _, p := range []string{"../shared-evil/secret", "/shared-evil/secret", "x/../../shared-evil/secret", "../../etc/passwd"} {
					c.open(3+fd, p, 0, 2)
				}
			}
		}),
		"change": build(func(c *wasmCode) {
			for fd := int64(3); fd < 3+wasmFolders; fd++ {
				c.open(fd, "doc.txt", trunc, all)
				c.open(fd, "new", create, all)
				at, n := c.name("doc.txt")
				c.try("path_unlink_file", fd, at, n)
			}
		}),
		"links": build(func(c *wasmCode) {
			for fd := int64(3); fd < 3+wasmFolders; fd++ {
				c.open(fd, "planted", trunc, all)
				c.open(fd, "../victim/file", trunc, all)
				for _, l := range [][2]string{{"../victim", "wup"}, {"/", "wroot"}} {
					to, n := c.name(l[0])
					at, m := c.name(l[1])
					c.try("path_symlink", to, n, fd, at, m)
				}
				c.open(fd, "wup/file", trunc, all)
				c.open(fd, "wroot/etc/passwd", 0, 2)
			}
		}),
		"plants": build(func(c *wasmCode) {
			for fd := int64(3); fd < 3+wasmFolders; fd++ {
				for _, d := range []string{".git", ".git/hooks", ".vscode"} {
					at, n := c.name(d)
					c.try("path_create_directory", fd, at, n)
				}
				for _, p := range []string{".bashrc", ".mcp.json", "casemate.yaml", ".git/hooks/pre-commit", ".vscode/tasks.json", ".BASHRC"} {
					c.open(fd, p, create, all)
				}
			}
		}),
		"grow": build(func(c *wasmCode) { // and touch all of it
			c.loop(func() {
				c.op(0x3f, 0) // memory.size
				c.setLocal(0)
				c.i32(16)
				c.op(0x40, 0) // memory.grow
				c.i32(-1)
				c.op(0x46, 0x0d, 1) // equal: out
				c.local(0)
				c.i32(16)
				c.op(0x74) // shl
				c.i32(1)
				c.op(0x36, 2, 0) // store
			})
			c.i32(wasmAnswer)
			c.op(0x3f, 0)
			c.i32(11) // in units of 128 MiB
			c.op(0x76)
			c.i32('0')
			c.op(0x6a, 0x3a, 0, 0)
			c.said++
		}),
		"disk": build(func(c *wasmCode) { // MiB written to its first folder, up to 200
			at, n := c.name("disk-bomb")
			c.invoke("path_open", 3, 1, at, n, create, all, 0, 0, wasmScratch+32)
			c.op(0x1a)
			c.i32(0)
			c.setLocal(0)
			c.i32(wasmVector)
			c.i32(0)
			c.op(0x36, 2, 0)
			c.i32(wasmVector + 4)
			c.i32(1 << 16)
			c.op(0x36, 2, 0)
			c.loop(func() {
				c.i32(wasmScratch + 32)
				c.op(0x28, 2, 0) // the descriptor
				c.i32(wasmVector)
				c.i32(1)
				c.i32(wasmScratch)
				c.op(append([]byte{0x10}, uleb(0)...)...) // fd_write
				c.op(0x0d, 1)                             // refused: out
				c.local(0)
				c.i32(1)
				c.op(0x6a, 0x22, 0)
				c.i32(200 * 16)
				c.op(0x4e, 0x0d, 1) // enough: out
			})
			c.count(16)
		}),
		"descriptors": build(func(c *wasmCode) { // up to 10,000
			at, n := c.name("fd-bomb")
			c.i32(0)
			c.setLocal(0)
			c.loop(func() {
				c.invoke("path_open", 3, 1, at, n, create, all, 0, 0, wasmScratch+32)
				c.op(0x0d, 1)
				c.local(0)
				c.i32(1)
				c.op(0x6a, 0x22, 0)
				c.i32(10_000)
				c.op(0x4e, 0x0d, 1)
			})
			c.count(1)
		}),
		"spin": build(func(c *wasmCode) { c.loop(func() {}) }),
		"flood": build(func(c *wasmCode) {
			c.i32(1000)
			c.setLocal(0)
			c.loop(func() {
				c.write(1, 0, 60_000)
				c.local(0)
				c.i32(1)
				c.op(0x6b, 0x22, 0, 0x45, 0x0d, 1) // one less; none: out
			})
		}),
		"logs": build(func(c *wasmCode) {
			c.i32(1000)
			c.setLocal(0)
			c.loop(func() {
				c.write(2, 0, 60_000)
				c.local(0)
				c.i32(1)
				c.op(0x6b, 0x22, 0, 0x45, 0x0d, 1)
			})
		}),
		"recurse": build(func(c *wasmCode) { c.b = append(append(c.b, 0x10), wasmSelf()...) }),
		"bounds":  build(func(c *wasmCode) { c.i32(-16); c.op(0x28, 2, 0, 0x1a) }),
		"table": build(func(c *wasmCode) { // as a function of another type
			c.i32(0)
			c.op(append(append([]byte{0x11}, wasmSelf()...), 0)...)
		}),
		"kept": build(func(c *wasmCode) { // counts in its memory
			c.i32(wasmAnswer)
			c.i32(wasmScratch + 64)
			c.op(0x2d, 0, 0) // load 8 bits
			c.i32('0')
			c.op(0x6a, 0x3a, 0, 0)
			c.i32(wasmScratch + 64)
			c.i32(1)
			c.op(0x3a, 0, 0)
			c.said++
		}),
		"random": build(func(c *wasmCode) {
			c.invoke("random_get", wasmAnswer, 32)
			c.op(0x1a)
			for i := range int32(32) { // letters
				c.i32(wasmAnswer + i)
				c.i32(wasmAnswer + i)
				c.op(0x2d, 0, 0)
				c.i32(15)
				c.op(0x71) // and
				c.i32('a')
				c.op(0x6a, 0x3a, 0, 0)
			}
			c.said = 32
		}),
	}
}

// wasmRefused are modules that no backend may take, and which make a
// configuration of their own.
func wasmRefused() map[string][]byte {
	c := &wasmCode{}
	c.op(0x10)
	c.b = append(c.b, wasmSelf()...)
	return map[string][]byte{"import": c.module("system"), "component": []byte("\x00asm\x0d\x00\x01\x00"), "cut": (&wasmCode{}).module("")[:40]}
}
