package placement

import (
	"context"
	"time"
)

// builders bounds how many templates and spares are made at the same time in the background.
const builders = 2

// giveWay bounds how long a builder waits for requests' starts to be over. Longer, and a busy node would have no spares,
// which save it the starts.
const (
	giveWay     = time.Second
	giveWayLook = 5 * time.Millisecond
)

// wish asks for a version's template and spares to be made in the background. used is when it was last used: the newest
// come first.
func (p *Placer) wish(key fleetKey, used time.Time) {
	p.wishMu.Lock()
	if known, ok := p.wishes[key]; !ok || known.Before(used) {
		p.wishes[key] = used
	}
	p.wishMu.Unlock()
	select {
	case p.wished <- struct{}{}:
	default:
	}
}

// nextWish takes the wish of the version that was used last.
func (p *Placer) nextWish() (key fleetKey, used time.Time, ok bool) {
	p.wishMu.Lock()
	defer p.wishMu.Unlock()
	for k, at := range p.wishes {
		if !ok || at.After(used) {
			key, used, ok = k, at, true
		}
	}
	delete(p.wishes, key)
	return key, used, ok
}

// grant makes what was wished for, until ctx ends.
func (p *Placer) grant(ctx context.Context) {
	for {
		p.letRequestsPass(ctx)
		key, used, ok := p.nextWish()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-p.wished:
				// One token may stand for several wishes: pass it on, until there are none left.
				if key, used, ok = p.nextWish(); !ok {
					continue
				}
				select {
				case p.wished <- struct{}{}:
				default:
				}
			}
		}
		if ctx.Err() != nil {
			return
		}
		p.warmUp(ctx, key, used)
	}
}

// letRequestsPass waits while environments are made that requests wait for.
func (p *Placer) letRequestsPass(ctx context.Context) {
	if p.urgent.Load() == 0 {
		return
	}
	limit := time.NewTimer(giveWay)
	defer limit.Stop()
	look := time.NewTicker(giveWayLook)
	defer look.Stop()
	for p.urgent.Load() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-limit.C:
			return
		case <-look.C:
		}
	}
}
