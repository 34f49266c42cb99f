package cli

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progressDelay is how long something must take before progress is drawn: shorter work only flickers.
const progressDelay = time.Second

// meter draws progress on standard error from progressDelay on, until stop. Without a terminal it draws nothing.
type meter struct {
	done  atomic.Int64
	label atomic.Pointer[string]
	quit  chan struct{}
	gone  sync.WaitGroup
}

// progress starts a meter. total is the number of steps, or -1 for a spinner. stop must be called.
func (p *program) progress(label string, total int) *meter {
	return p.progressAfter(label, total, progressDelay)
}

func (p *program) progressAfter(label string, total int, delay time.Duration) *meter {
	m := &meter{quit: make(chan struct{})}
	m.label.Store(&label)
	if !p.io.Terminal {
		return m
	}
	m.gone.Go(func() {
		select {
		case <-m.quit:
			return
		case <-time.After(delay):
		}
		bar := progressbar.NewOptions(total,
			progressbar.OptionSetWriter(p.io.Err),
			progressbar.OptionSetDescription(*m.label.Load()),
			progressbar.OptionSetWidth(30),
			progressbar.OptionSpinnerType(14),
			progressbar.OptionShowCount(),
			progressbar.OptionClearOnFinish(),
			progressbar.OptionSetRenderBlankState(true),
		)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		// The bar writes to standard error only; there is nowhere to say that this failed.
		defer func() { _ = bar.Clear() }()
		for {
			select {
			case <-m.quit:
				return
			case <-tick.C:
				bar.Describe(*m.label.Load())
				if total < 0 {
					_ = bar.Add(1)
				} else {
					_ = bar.Set64(min(m.done.Load(), int64(total)))
				}
			}
		}
	})
	return m
}

func (m *meter) step()               { m.done.Add(1) }
func (m *meter) relabel(text string) { m.label.Store(&text) }

// stop clears the line and returns when nothing more is drawn.
func (m *meter) stop() {
	close(m.quit)
	m.gone.Wait()
}
