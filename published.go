package thaw

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

// Alias is a name for one version of a function, or for two that share its traffic.
type Alias struct {
	Name        string `json:"name"`
	Version     string `json:"version"` // Latest, or a published version's number
	Description string `json:"description,omitempty"`
	// Other is the second version, empty when there is none, and Weight its share of the invocations, 0 to 1 (AWS's
	// RoutingConfig.AdditionalVersionWeights, which holds at most one entry).
	Other      string  `json:"other,omitempty"`
	Weight     float64 `json:"weight,omitempty"`
	RevisionID string  `json:"revision_id"`
}

// Provisioned is a wish for environments that are initialised before they are needed (AWS's provisioned concurrency).
// Whether it is fulfilled is each node's to tell, and not part of it.
type Provisioned struct {
	Requested    int       `json:"requested"`
	LastModified time.Time `json:"last_modified"`
}

// Capacity is what a node has of a qualifier's provisioned concurrency.
type Capacity struct {
	Allocated int    // environments being made and made
	Available int    // environments that are initialised, idle or busy
	Status    string // ProvisionedInProgress, ProvisionedReady or ProvisionedFailed
	Reason    string // AWS's StatusReason, empty unless Status is ProvisionedFailed
}

// Values of Capacity's Status, after the Lambda API's ProvisionedConcurrencyStatusEnum.
const (
	ProvisionedInProgress = "IN_PROGRESS"
	ProvisionedReady      = "READY"
	ProvisionedFailed     = "FAILED"
)

// EventInvoke is how asynchronous invocations of one qualifier are retried and where their outcome goes (AWS's
// FunctionEventInvokeConfig).
type EventInvoke struct {
	MaxAge       *int      `json:"max_age,omitempty"`     // seconds, 60 to 21,600; nil: 21,600
	MaxRetries   *int      `json:"max_retries,omitempty"` // 0 to 2; nil: 2
	OnSuccess    string    `json:"on_success,omitempty"`  // ARN, empty: none
	OnFailure    string    `json:"on_failure,omitempty"`  // ARN, empty: none
	LastModified time.Time `json:"last_modified"`
}

// Values of RecursiveLoop, after the Lambda API's enumeration.
const (
	RecursionAllow     = "Allow"
	RecursionTerminate = "Terminate"
)

// Version gives the version with that number, Latest standing for the newest accepted configuration. It is nil when
// there is none. A published version says by its State whether it can be invoked; Latest is invoked as Running.
func (f *Function) Version(number string) *Version {
	if number == Latest {
		return &f.Config
	}
	n, err := strconv.Atoi(number)
	if err != nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(f.Published, n, func(v Version, n int) int { return cmp.Compare(versionNumber(v.Number), n) })
	if !ok || f.Published[i].Number != number {
		return nil
	}
	return &f.Published[i]
}

func versionNumber(s string) int {
	n, _ := strconv.Atoi(s) // what is stored was made by strconv
	return n
}

// InForce gives the version with that number as invocations may use it now, nil when there is none that can be.
func (f *Function) InForce(number string) *Version {
	v := f.Running
	if number != Latest {
		v = f.Version(number)
	}
	if v == nil || v.State != StateActive {
		return nil
	}
	return v
}

// AllInForce lists every version that invocations may use now: Latest first, then by number.
func (f *Function) AllInForce() []*Version {
	all := make([]*Version, 0, 1+len(f.Published))
	if v := f.InForce(Latest); v != nil {
		all = append(all, v)
	}
	for i := range f.Published {
		if f.Published[i].State == StateActive {
			all = append(all, &f.Published[i])
		}
	}
	return all
}

// ProvisionedFor is how many provisioned environments a version is to have: its own wish, or those of the aliases that
// point at it.
func (f *Function) ProvisionedFor(number string) int {
	n := f.Provisioned[number].Requested
	for name := range f.Aliases {
		if a := f.Aliases[name]; a.Version == number {
			n += f.Provisioned[name].Requested
		}
	}
	return n
}

// Claim is what the function takes out of the account's concurrency for itself: its reserve, of which its provisioned
// concurrency is a part, or what it has provisioned without one.
func (f *Function) Claim() int {
	if f.Reserved != nil {
		return *f.Reserved
	}
	return f.TotalProvisioned()
}

// TotalProvisioned sums the wishes of all qualifiers.
func (f *Function) TotalProvisioned() (n int) {
	for _, p := range f.Provisioned {
		n += p.Requested
	}
	return n
}
