package invoke

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"thaw"
	"thaw/state"
)

// AWS's names of the limits that refuse an invocation, the Reason member of TooManyRequestsException.
const (
	reasonAccount  = "ConcurrentInvocationLimitExceeded"
	reasonReserved = "ReservedFunctionConcurrentInvocationLimitExceeded"
)

// ThrottleReasons are those that Config.Throttled is told.
func ThrottleReasons() []string { return []string{reasonAccount, reasonReserved} }

// permits counts what runs at the same time and refuses what would be over a limit. Each count is one atomic number that
// is changed only where it stays within its limit, so that no limit is ever exceeded, not for an instant, and nothing is
// refused while there is room.
//
//	a function with reserved concurrency     its own on-demand invocations <= reserved - provisioned
//	all others together                      their on-demand invocations   <= account - what is reserved or provisioned
//	a function's provisioned environments    its invocations on them       <= provisioned
//	everything                               all invocations               <= account
//
// The last one binds only for a moment: after a claim has grown, while what ran before goes on.
type permits struct {
	account int64
	total   atomic.Int64
	// claimed is what of the account's limit belongs to someone: reserved concurrency, and the provisioned concurrency
	// of functions without it.
	claimed atomic.Int64
	// unreserved is how many invocations hold a permit of the account's common part.
	unreserved atomic.Int64
	usages     sync.Map // function name -> *usage

	mu     sync.Mutex // serialises changed; guards claims
	claims map[string]int64

	scaling ScalingRate
}

// usage is what one function does now and has done since the platform started.
type usage struct {
	// lineage is the function's part of a trace's lineage.
	lineage string
	// onDemand is how many of its invocations hold a permit, from its own part or from the common one.
	onDemand atomic.Int64
	// provisioned is how many run on provisioned environments.
	provisioned atomic.Int64
	// last is when the function was last invoked, Unix seconds.
	last    atomic.Int64
	growth  *growth // nil: not bounded
	counted counts
}

type counts struct {
	invocations, errors, throttles, spilled atomic.Int64
	kinds                                   [len(startKinds)]atomic.Int64
}

var startKinds = [...]thaw.StartKind{thaw.StartWarm, thaw.StartProvisioned, thaw.StartSpare, thaw.StartFork, thaw.StartBoot}

func (c *counts) count(r *Response) {
	c.invocations.Add(1)
	if r.FunctionError {
		c.errors.Add(1)
	}
	for i, kind := range startKinds {
		if r.Record.Kind == kind {
			c.kinds[i].Add(1)
		}
	}
}

// ScalingRate bounds how fast a function's environments may become more (AWS: 1,000 each 10 s).
type ScalingRate struct {
	Environments int           // at once, and in each Per; 0: not bounded
	Per          time.Duration // positive
}

func newPermits(account int, scaling ScalingRate) *permits {
	return &permits{account: int64(account), claims: map[string]int64{}, scaling: scaling}
}

// of gives a function's usage, made at its first invocation.
func (p *permits) of(a *thaw.Account, name string) *usage {
	if u, ok := p.usages.Load(name); ok {
		return u.(*usage)
	}
	u := &usage{lineage: lineageOf(a.FunctionARN(name, "")), growth: newGrowth(p.scaling)}
	made, _ := p.usages.LoadOrStore(name, u)
	return made.(*usage)
}

// permit is the right to run one invocation.
type permit struct {
	of     *permits
	usage  *usage
	common bool // of the account's common part
	kept   bool // of the function's provisioned concurrency
}

// take takes a permit for an on-demand invocation of f. It decides at once.
func (p *permits) take(f *thaw.Function, u *usage) (permit, error) {
	reason := reasonAccount
	got := permit{of: p, usage: u, common: f.Reserved == nil}
	var ok bool
	if got.common {
		if ok = raise(&p.unreserved, p.account-p.claimed.Load()); ok {
			u.onDemand.Add(1)
		}
	} else if ok = raise(&u.onDemand, int64(*f.Reserved-f.TotalProvisioned())); !ok {
		reason = reasonReserved
	}
	if ok && !raise(&p.total, p.account) {
		got.giveBack()
		ok = false
	}
	if !ok {
		u.counted.throttles.Add(1)
		return permit{}, throttled(reason)
	}
	return got, nil
}

// takeProvisioned takes a permit for an invocation on one of f's provisioned environments.
func (p *permits) takeProvisioned(f *thaw.Function, u *usage) (permit, bool) {
	// While an alias moves there are more environments than are provisioned: the claim is what bounds them.
	if !raise(&u.provisioned, int64(f.TotalProvisioned())) {
		return permit{}, false
	}
	got := permit{of: p, usage: u, kept: true}
	if !raise(&p.total, p.account) {
		got.giveBack()
		return permit{}, false
	}
	return got, true
}

// keep makes a permit for an on-demand invocation one of f's provisioned concurrency, if there is any left.
func (p *permit) keep(f *thaw.Function) bool {
	if !raise(&p.usage.provisioned, int64(f.TotalProvisioned())) {
		return false
	}
	p.giveBack()
	p.common, p.kept = false, true
	return true
}

func (p *permit) release() {
	p.giveBack()
	p.of.total.Add(-1)
}

// giveBack is release without the account's total.
func (p *permit) giveBack() {
	if p.kept {
		p.usage.provisioned.Add(-1)
		return
	}
	p.usage.onDemand.Add(-1)
	if p.common {
		p.of.unreserved.Add(-1)
	}
}

// raise adds one to n unless that would make it more than limit.
func raise(n *atomic.Int64, limit int64) bool {
	for {
		now := n.Load()
		if now >= limit {
			return false
		}
		if n.CompareAndSwap(now, now+1) {
			return true
		}
	}
}

func throttled(reason string) error {
	return &thaw.Error{Code: thaw.CodeTooManyRequests, Message: "Rate Exceeded.", Reason: reason, RetryAfter: time.Second}
}

// changed takes over what a function claims of the account's limit; f is nil when it is gone.
func (p *permits) changed(name string, f *thaw.Function) {
	var claim int64
	if f != nil {
		claim = int64(f.Claim())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.claimed.Add(claim - p.claims[name])
	if claim != 0 {
		p.claims[name] = claim
	} else {
		delete(p.claims, name)
	}
	if f == nil {
		// What still runs of it holds its own usage; a new function of that name begins at nothing.
		p.usages.Delete(name)
	}
}

// Run follows what functions claim until ctx ends.
func (i *Invoker) Run(ctx context.Context) error {
	err := i.cfg.Catalog.Watch(ctx, func(c state.Change) { i.permits.changed(c.Name, c.Function) })
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Usage is what one function does now and has done since the platform started.
type Usage struct {
	OnDemand    int64                    `json:"on_demand"`   // invocations that run on demand
	Provisioned int64                    `json:"provisioned"` // invocations that run on provisioned environments
	LastInvoked time.Time                `json:"last_invoked,omitzero"`
	Invocations int64                    `json:"invocations"`
	Errors      int64                    `json:"errors"`
	Throttles   int64                    `json:"throttles"`
	SpilledOver int64                    `json:"spilled_over"` // on demand, since every provisioned environment was busy
	Starts      map[thaw.StartKind]int64 `json:"starts"`
}

// Usage tells about one function.
func (i *Invoker) Usage(name string) Usage {
	loaded, ok := i.permits.usages.Load(name)
	if !ok {
		return Usage{Starts: map[thaw.StartKind]int64{}}
	}
	u := loaded.(*usage)
	all := Usage{
		OnDemand: u.onDemand.Load(), Provisioned: u.provisioned.Load(),
		Invocations: u.counted.invocations.Load(), Errors: u.counted.errors.Load(),
		Throttles: u.counted.throttles.Load(), SpilledOver: u.counted.spilled.Load(),
		Starts: map[thaw.StartKind]int64{},
	}
	if last := u.last.Load(); last != 0 {
		all.LastInvoked = time.Unix(last, 0).UTC()
	}
	for k, kind := range startKinds {
		if n := u.counted.kinds[k].Load(); n != 0 {
			all.Starts[kind] = n
		}
	}
	return all
}

// AccountUsage is how the account's concurrency is divided.
type AccountUsage struct {
	Limit      int64 `json:"limit"`
	Claimed    int64 `json:"claimed"`    // reserved or provisioned
	Unreserved int64 `json:"unreserved"` // of the rest, in use
}

// AccountUsage tells about all functions together.
func (i *Invoker) AccountUsage() AccountUsage {
	return AccountUsage{Limit: i.permits.account, Claimed: i.permits.claimed.Load(), Unreserved: i.permits.unreserved.Load()}
}
