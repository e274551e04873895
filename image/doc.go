// Package image turns an image (an OCI layout, a docker-archive, or what a
// registry has) into one read-only folder of the host, kept under the digest
// of its manifest: the root of a tool's sandbox.
//
// # What is trusted
//
// Of an image nothing but its digest. A reference without one is resolved
// once, and the operator's lock has the digest ever after. Every byte that
// counts is compared with a digest: the manifest with the pinned one, the
// configuration and each layer with the manifest, and what a layer unpacks to
// with the configuration. From the manifest come the layers' digests and from
// the configuration the processor and those of the unpacked layers. The
// image's user, entry point, environment, volumes and labels are not read.
//
// # Who does what
//
// [Store.Pull] runs as the operator. It reads JSON of bounded size, hashes
// the bytes of layers, and hands them on; it decompresses nothing and makes
// nothing of them. [Unpack] does, in a process of its own that the caller
// confines: it has one pipe to read, one folder to write beneath, and nothing
// else. What it says is not believed: that the layers are the right ones the
// operator's process knows by itself, and when the other one is gone it looks
// at every entry of the tree before it moves it to its place.
//
// # The folder
//
// The layers are unpacked over each other into one tree, and whiteouts remove
// what lies below them. So a tree needs no overlay, whose whiteouts and opaque
// folders in a user namespace want extended attributes that not every file
// system has, and mounting it costs the same for one layer and for sixty. The
// price is that images do not share layers on disk.
//
// Everything belongs to the caller. Folders and files that may be run have
// mode 0555, other files 0444: setuid, setgid and sticky bits, owners,
// extended attributes (and with them file capabilities and ACLs) are not kept.
// Times of files are, since compiled Python is compared by them. Devices and
// FIFOs are left out, and counted. Links are kept as they are, absolute and
// climbing: they lead somewhere only within a sandbox, and nothing on the host
// may follow them.
//
// # How names are resolved
//
// Each name is opened beneath the tree's root by openat2 with
// RESOLVE_IN_ROOT: links of the image, absolute ones too, are followed as in
// the image, and never out of it. A leading "/" is the tree's root; a name
// with ".." is refused. A name that stands twice in one layer is refused,
// folders aside: which of the two counts would depend on who reads it. Files
// with holes are refused too. A hard link is made to a file or link of the
// tree, and a file that is replaced is removed first, so that nothing is ever
// written through a link.
//
// # Limits
//
// See [Limits]. They count what is unpacked, whether it stays or not, so that
// neither a bomb nor layers that remove what the others made cost more than
// that. A pull ends before the disk is full.
package image
