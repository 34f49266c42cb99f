package invoke

import (
	"math/rand/v2"

	"thaw"
)

// Destination is what a request is for: a function, the version that serves it, and how the caller named it.
type Destination struct {
	Function *thaw.Function
	Version  *thaw.Version
	Alias    string // empty when the caller named none
	ARN      string // as invoked, which is what the function's context shows: with the qualifier that the caller gave
}

// Resolve finds the version that a request is for; of an alias with two versions it draws one by weight. Errors are
// *thaw.Error with AWS's codes and texts. An inactive version is woken up by the attempt, which itself fails, as on AWS.
func (i *Invoker) Resolve(ref thaw.FunctionRef, qualifier string) (Destination, error) {
	if ref.Qualifier != "" {
		if qualifier != "" && qualifier != ref.Qualifier {
			return Destination{}, thaw.Errorf(thaw.CodeInvalidParameterValue, "The derived qualifier from the function name does not match the specified qualifier.")
		}
		qualifier = ref.Qualifier
	}
	if err := i.cfg.Account.CheckOwned("InvokeFunction", ref); err != nil {
		return Destination{}, err
	}
	f, ok := i.cfg.Catalog.Function(ref.Name)
	if !ok {
		return Destination{}, i.notFound(ref.Name, qualifier)
	}
	d := Destination{Function: f}
	number := qualifier
	if number == "" {
		number = thaw.Latest
	}
	if a, ok := f.Aliases[number]; ok {
		d.Alias, number = a.Name, a.Version
		if a.Other != "" && rand.Float64() < a.Weight {
			number = a.Other
		}
	}
	asked := f.Version(number)
	if asked == nil {
		return Destination{}, i.notFound(ref.Name, qualifier)
	}
	if d.Version = f.InForce(number); d.Version == nil || asked.State == thaw.StateInactive {
		if asked.State == thaw.StateInactive {
			i.cfg.Placer.Wake(asked)
		}
		return Destination{}, i.notReady(f.Name, asked)
	}
	d.ARN = i.cfg.Account.FunctionARN(f.Name, qualifier)
	return d, nil
}

func (i *Invoker) notFound(name, qualifier string) error {
	return thaw.Errorf(thaw.CodeResourceNotFound, "Function not found: %s", i.cfg.Account.FunctionARN(name, qualifier))
}

// notReady explains why a version cannot be invoked; the texts are AWS's.
func (i *Invoker) notReady(name string, v *thaw.Version) error {
	const format = "The operation cannot be performed at this time. The function is currently in the following state: "
	if v.State == thaw.StateFailed {
		return thaw.Errorf(thaw.CodeResourceConflict, format+"Failed. %s", v.StateReason)
	}
	qualifier := ""
	if v.Number != thaw.Latest {
		qualifier = v.Number
	}
	return thaw.Errorf(thaw.CodeResourceConflict, format+"%s: %s", v.State, i.cfg.Account.FunctionARN(name, qualifier))
}
