package lambda

import (
	"fmt"
	"strings"

	"thaw"
	"thaw/control/internal/operation"
)

// maxName is the longest function name, in characters, after the FunctionName documentation of CreateFunction. The
// model's own bound is larger because it is that of an ARN.
const maxName = 64

const namePattern = `(arn:(aws[a-zA-Z-]*)?:lambda:)?([a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?`

// target is a function of this platform as a request named it.
type target struct {
	name      string
	qualifier string // empty when the request had none
}

func (t target) String() string {
	if t.qualifier == "" {
		return t.name
	}
	return t.name + ":" + t.qualifier
}

// resolve reads the function name and qualifier of a request for the operation op. It does not look whether the function exists.
func (a *API) resolve(op string, name, qualifier *string) (target, error) {
	ref, ok := thaw.ParseFunctionRef(operation.Value(name))
	if !ok {
		return target{}, thaw.Errorf(thaw.CodeValidation, "1 validation error detected: Value '%s' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: %s", operation.Value(name), namePattern)
	}
	if err := a.cfg.Account.CheckOwned(op, ref); err != nil {
		return target{}, err
	}
	q := operation.Value(qualifier)
	if q != "" && ref.Qualifier != "" && q != ref.Qualifier {
		return target{}, thaw.Errorf(thaw.CodeInvalidParameterValue, "The derived qualifier from the function name does not match the specified qualifier.")
	}
	if q == "" {
		q = ref.Qualifier
	}
	return target{name: ref.Name, qualifier: q}, nil
}

// newName reads the name of a function to be created.
func (a *API) newName(name *string) (string, error) {
	t, err := a.resolve("CreateFunction", name, nil)
	if err != nil {
		return "", err
	}
	if t.qualifier != "" {
		return "", thaw.Errorf(thaw.CodeValidation, "1 validation error detected: Value '%s' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: %s", operation.Value(name), namePattern)
	}
	if len(t.name) > maxName {
		return "", thaw.Errorf(thaw.CodeInvalidParameterValue, "1 validation error detected: Value '%s' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to %d", t.name, maxName)
	}
	return t.name, nil
}

// unqualified is resolve for the operations that change a function as a whole.
func (a *API) unqualified(op string, name *string) (target, error) {
	t, err := a.resolve(op, name, nil)
	if err == nil && t.qualifier != "" && t.qualifier != thaw.Latest {
		err = thaw.Errorf(thaw.CodeInvalidParameterValue, "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. Please specify either a function name or an unqualified function ARN.")
	}
	return t, err
}

// find gives the function that t names and the version that its qualifier stands for.
func (a *API) find(t target) (*thaw.Function, *thaw.Version, error) {
	f, ok := a.cfg.Functions.Function(t.name)
	if !ok {
		return nil, nil, a.notFound(t)
	}
	v := versionOf(f, t.qualifier)
	if v == nil {
		return nil, nil, a.notFound(t)
	}
	return f, v, nil
}

// versionOf gives the version that a qualifier stands for: no qualifier for $LATEST, an alias for its first version. It
// is nil when there is none.
func versionOf(f *thaw.Function, qualifier string) *thaw.Version {
	if qualifier == "" {
		return &f.Config
	}
	if alias, ok := f.Aliases[qualifier]; ok {
		qualifier = alias.Version
	}
	return f.Version(qualifier)
}

// qualified is versionOf with the words of the operations that tell an alias that is not there from a version.
func (a *API) qualified(f *thaw.Function, t target) error {
	if versionOf(f, t.qualifier) == nil {
		return a.missing(t)
	}
	return nil
}

func (a *API) missing(t target) error {
	if isAlias(t.qualifier) {
		return a.noAlias(t)
	}
	return a.notFound(t)
}

func (a *API) notFound(t target) error {
	return thaw.Errorf(thaw.CodeResourceNotFound, "Function not found: %s", a.arn(t))
}

func (a *API) arn(t target) string { return a.cfg.Account.FunctionARN(t.name, t.qualifier) }

// isAlias reports whether qualifier has the form of an alias's name, which no version's number has.
func isAlias(qualifier string) bool {
	return !strings.Contains(qualifier, "$") && strings.Trim(qualifier, "0123456789") != ""
}

// invalid is the error for a parameter whose value cannot be taken.
func invalid(format string, args ...any) error {
	return &thaw.Error{Code: thaw.CodeInvalidParameterValue, Message: fmt.Sprintf(format, args...)}
}
