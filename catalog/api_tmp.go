package catalog

import "github.com/casemate/casemate"

// Parse checks src, the content of the file of that name (its real path).
func Parse(name string, src []byte, opt Options) (*Config, error) {
	return nil, &casemate.Error{Op: "load", Kind: casemate.Internal}
}

// Find says which configuration to use, and whether it is trusted by its place.
func Find(explicit, env, cwd, userConfigDir string) (path string, trusted bool, err error) {
	return "", false, &casemate.Error{Op: "load", Kind: casemate.Internal}
}

// Load reads and checks the configuration at path.
func Load(path string, opt Options) (*Config, error) {
	return nil, &casemate.Error{Op: "load", Kind: casemate.Internal}
}

// Trust is the folder of what the user has agreed to.
type Trust struct{ Dir string }

// Add records that the user trusts c as it is now.
func (t Trust) Add(c *Config) error { return &casemate.Error{Op: "trust", Kind: casemate.Internal} }

// Check is nil if c is what the user trusted, else an error of kind Denied.
func (t Trust) Check(c *Config) error { return &casemate.Error{Op: "trust", Kind: casemate.Denied} }

// Load loads an untrusted path.
func (t Trust) Load(path string, opt Options) (*Config, error) { return nil, t.Check(nil) }

// Summary says what c would grant.
func (c *Config) Summary() []string { return c.grants }

// Pinned lists the files that no write grant may change.
func (c *Config) Pinned() []string { return c.refs }

// LockFile is the path of the lock.
func (c *Config) LockFile() string { return "" }

// CheckLock compares.
func (c *Config) CheckLock() error { return &casemate.Error{Op: "lock", Kind: casemate.Denied} }

// WriteLock writes.
func (c *Config) WriteLock() error { return &casemate.Error{Op: "lock", Kind: casemate.Internal} }

// Schema is the JSON Schema of a configuration.
func Schema() []byte { return nil }

// Starter is what casemate init writes.
func Starter() []byte { return nil }
