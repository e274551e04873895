package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/image"
)

func (a *app) imageCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "image",
		Short: "Get, list and remove images: the roots of tools in containers",
		Long: `An image is the root of a tool's sandbox. It is named by the tool (image:), as
registry/name@sha256:…, registry/name:tag, oci:FOLDER or docker-archive:FILE,
and is had when the tool is first needed; pull has it before.`,
		Args: a.unknown,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.imagePullCommand(), a.imageListCommand(), a.imageRemoveCommand(), a.imagePruneCommand())
	return c
}

// interruptible ends with the first interrupt.
func interruptible() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

// shownImage is an image as it is listed.
type shownImage struct {
	Digest    casemate.Digest `json:"digest"`
	Reference string          `json:"reference"`
	Bytes     int64           `json:"bytes"`
	Entries   int             `json:"entries"`
	Skipped   int             `json:"skipped,omitempty"`
	Made      time.Time       `json:"made"`
	Root      string          `json:"root"`
}

func shown(i image.Image) shownImage {
	return shownImage{i.Digest, i.Reference, i.Bytes, i.Entries, i.Skipped, i.Made, i.Layers[0]}
}

func (a *app) imagePullCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pull REFERENCE",
		Short: "Get an image, verify it and unpack it; a tag is resolved to its digest, which is printed",
		Args:  cobra.ExactArgs(1),
		RunE: runs(func(_ *cobra.Command, args []string) error {
			state, err := stateFolder("")
			if err != nil {
				return err
			}
			r, err := image.Parse(args[0])
			if err != nil {
				return err
			}
			ctx, stop := interruptible()
			defer stop()
			if r.Digest == "" {
				if r.Digest, err = image.Resolve(ctx, r); err != nil {
					return err
				}
			}
			i, err := a.pullImage(ctx, state, r)
			if err != nil {
				return err
			}
			if a.console.json {
				return a.object(shown(i))
			}
			if i.Skipped > 0 {
				a.note("left out: %s", plural(i.Skipped, "special file"))
			}
			return a.line("%s", i.Digest)
		}),
	}
}

func (a *app) imageListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the images of the store",
		Args:  noArgs,
		RunE: runs(func(*cobra.Command, []string) error {
			s, err := ownImages()
			if err != nil {
				return err
			}
			all, err := s.List()
			if err != nil {
				return err
			}
			out := []shownImage{}
			for _, i := range all {
				out = append(out, shown(i))
			}
			if a.console.json {
				return a.object(struct {
					Images []shownImage `json:"images"`
				}{out})
			}
			for _, i := range out {
				if err := a.line("%s  %9s  %s  %s", i.Digest, size(i.Bytes), i.Made.Local().Format("2006-01-02 15:04"), i.Reference); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}

// ownImages is the store in the user's own folder of state.
func ownImages() (*image.Store, error) {
	state, err := stateFolder("")
	if err != nil {
		return nil, err
	}
	return images(state)
}

func (a *app) imageRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rm DIGEST",
		Short: "Remove an image; a sandbox that uses it keeps it until it ends",
		Args:  cobra.ExactArgs(1),
		RunE: runs(func(_ *cobra.Command, args []string) error {
			s, err := ownImages()
			if err != nil {
				return err
			}
			i, ok := s.Find(casemate.Digest(args[0]))
			if !ok {
				return invalid("image", "casemate image list shows what is there", "there is no image %.100q", args[0])
			}
			ctx, stop := interruptible()
			defer stop()
			return s.Remove(ctx, i.Digest)
		}),
	}
}

func (a *app) imagePruneCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "prune",
		Short: "Remove the images that the configuration does not name, and what killed pulls left",
		Args:  noArgs,
		RunE: runs(func(*cobra.Command, []string) error {
			l, err := a.load()
			if err != nil {
				return err
			}
			s, err := images(l.state)
			if err != nil {
				return err
			}
			keep := map[casemate.Digest]bool{}
			for _, t := range l.Tools {
				if t.Image == nil {
					continue
				}
				if d, err := pinnedImage(l, t.Image.Reference); err == nil {
					keep[d] = true
				}
			}
			ctx, stop := interruptible()
			defer stop()
			gone, err := s.Prune(ctx, keep)
			var bytes int64
			for _, i := range gone {
				bytes += i.Bytes
			}
			if a.console.json {
				out := []shownImage{}
				for _, i := range gone {
					out = append(out, shown(i))
				}
				if e := a.object(struct {
					Removed []shownImage `json:"removed"`
				}{out}); err == nil {
					err = e
				}
				return err
			}
			a.note("removed %s, %s", plural(len(gone), "image"), size(bytes))
			return err
		}),
	}
}
