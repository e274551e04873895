package spawner

import "syscall"

// removableSpaces are walls that stand before a sandbox's first step, by the
// names under which a test takes them away (plan.Host.Without); contain's steps
// go by theirs. The namespace is then that of who makes the test, which has to
// be one where no attack does harm.
func removableSpaces() map[string]uintptr {
	return map[string]uintptr{"namespace-net": syscall.CLONE_NEWNET, "namespace-ipc": syscall.CLONE_NEWIPC, "namespace-cgroup": syscall.CLONE_NEWCGROUP}
}

// weaken takes walls away.
func (s *server) weaken(attr *syscall.SysProcAttr) *syscall.SysProcAttr {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.plan.Host.Without {
		attr.Cloneflags &^= removableSpaces()[w]
	}
	return attr
}
