package placement

// stage is where in its life an environment is. The package comment draws it.
type stage uint8

const (
	starting stage = iota
	spare          // parked, has served nothing
	idle           // parked, has served or is provisioned
	busy           // in a request's hands
	over           // being closed
	stages
)

var stageNames = [stages]string{"starting", "spare", "idle", "busy", "ending"}

func (s stage) String() string { return stageNames[s] }

// legal holds the stages that may follow each.
var legal = [stages][stages]bool{
	starting: {spare: true, idle: true, busy: true, over: true},
	spare:    {busy: true, over: true},
	idle:     {busy: true, over: true},
	busy:     {spare: true, idle: true, over: true},
}

// move is the one place where an environment's stage changes, and where they are counted. It reports false for a change
// that cannot be, which is a fault of the platform: the environment ends, whoever has it, and the caller lets go of it.
// The caller holds f.mu.
func (f *fleet) move(i *Instance, to stage) bool {
	from := i.stage
	if legal[from][to] {
		f.enter(i, to)
		return true
	}
	if from != over {
		f.unpark(i)
		f.enter(i, over)
	}
	if f.fault != nil {
		f.fault(i, from, to)
	}
	return false
}

func (f *fleet) enter(i *Instance, to stage) {
	f.tally[i.stage]--
	f.tally[to]++
	switch {
	case to == over:
		delete(f.live, i.ID)
	case i.stage == starting:
		f.live[i.ID] = i
	}
	i.stage = to
}

// illegal takes note of a fault, and ends the environment if the fault has ended its life. It waits for nothing: its caller
// holds a fleet's lock.
func (p *Placer) illegal(i *Instance, from, to stage) {
	go func() {
		p.cfg.Log.Error("an environment ends: the platform has lost track of it", "function", i.Version.Function, "environment", i.ID, "was", from.String(), "asked", to.String())
		if from != over {
			p.bury(ending{instance: i})
		}
	}()
}

// launch counts an environment that is being made, and abandon one that could not be.
func (f *fleet) launch() {
	f.mu.Lock()
	f.tally[starting]++
	f.mu.Unlock()
}

func (f *fleet) abandon() {
	f.mu.Lock()
	f.tally[starting]--
	f.mu.Unlock()
}

// closed counts an environment no more.
func (f *fleet) closed() {
	f.mu.Lock()
	f.tally[over]--
	f.mu.Unlock()
}
