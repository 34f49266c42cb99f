package lambda

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/uuid"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/state"
)

func (a *API) publishVersion(ctx context.Context, in *sdk.PublishVersionInput) (*sdk.PublishVersionOutput, error) {
	t, err := a.unqualified("PublishVersion", in.FunctionName)
	if err != nil {
		return nil, err
	}
	if in.PublishTo != "" {
		return nil, errPublishTo
	}
	layers, err := a.layerUsage(ctx)
	if err != nil {
		return nil, err
	}
	var v *thaw.Version
	_, err = a.update(ctx, t.name, func(f *thaw.Function) error {
		if err := a.changeable(f, in.RevisionId); err != nil {
			return err
		}
		if f.Config.State == thaw.StateFailed {
			return thaw.Errorf(thaw.CodeResourceConflict, "The operation cannot be performed at this time. The function is currently in the following state: Failed")
		}
		if sha := operation.Value(in.CodeSha256); sha != "" && sha != f.Config.Code.SHA256 {
			return invalid("CodeSHA256 (%s) is different from current CodeSHA256 in $LATEST (%s). Please try again with the CodeSHA256 in $LATEST.", sha, f.Config.Code.SHA256)
		}
		before := f.LastNumber
		var err error
		if v, err = a.publish(f, in.Description, layers); err == nil && f.LastNumber == before {
			err = errNothingToDo
		}
		return err
	})
	if errors.Is(err, state.ErrNotFound) {
		return nil, a.notFound(t)
	}
	if err != nil {
		return nil, err
	}
	return fill(&sdk.PublishVersionOutput{}, a.describe(v, v.Number)), nil
}

// publish appends a version made of $LATEST as it is now, or gives the newest one if that is the same. A description
// takes the place of $LATEST's. layers is layerUsage.
func (a *API) publish(f *thaw.Function, description *string, layers int64) (*thaw.Version, error) {
	if n := len(f.Published); n > 0 && unchanged(&f.Config, &f.Published[n-1]) {
		return &f.Published[n-1], nil
	}
	if _, used := a.usage(f.Name); used+layers+2*f.Config.Code.Size > a.cfg.Limits.TotalCodeSize {
		return nil, errCodeStorage
	}
	f.LastNumber++
	v := f.Config
	v.Number = strconv.Itoa(f.LastNumber)
	if description != nil {
		latest := v.Description
		v.Description, v.LatestDescription = *description, &latest
	}
	v.State, v.StateReason, v.StateReasonCode = thaw.StatePending, reasonCreating, reasonCodeCreating
	v.LastUpdate, v.LastUpdateReason, v.LastUpdateCode = "", "", ""
	v.RevisionID = uuid.NewString()
	v.Generation = thaw.NextGeneration(lastGeneration(f), a.now())
	f.Published = append(f.Published, v)
	if mode, ok := f.UpdateRuntimeOn[thaw.Latest]; ok {
		f.UpdateRuntimeOn[v.Number] = mode
	}
	revision(f)
	return &f.Published[len(f.Published)-1], nil
}

// unchanged reports whether latest is what v was published from. That v was given a description of its own does not
// count; that $LATEST has a new one does.
func unchanged(latest, v *thaw.Version) bool {
	return reflect.DeepEqual(content(latest), content(v))
}

// content is what a version is, without its name, states and times.
func content(v *thaw.Version) thaw.Version {
	c := *v
	if c.LatestDescription != nil {
		c.Description, c.LatestDescription = *c.LatestDescription, nil
	}
	c.Number, c.RevisionID, c.Generation = "", "", 0
	c.State, c.StateReason, c.StateReasonCode = "", "", ""
	c.LastUpdate, c.LastUpdateReason, c.LastUpdateCode = "", "", ""
	c.LastModified = time.Time{}
	return c
}

// lastGeneration is the highest generation among f's versions.
func lastGeneration(f *thaw.Function) uint64 {
	last := f.Config.Generation
	for i := range f.Published {
		last = max(last, f.Published[i].Generation)
	}
	return last
}

// listVersionsByFunction shows $LATEST and then the published versions by number.
func (a *API) listVersionsByFunction(_ context.Context, in *sdk.ListVersionsByFunctionInput) (*sdk.ListVersionsByFunctionOutput, error) {
	t, err := a.unqualified("ListVersionsByFunction", in.FunctionName)
	if err != nil {
		return nil, err
	}
	f, _, err := a.find(t)
	if err != nil {
		return nil, err
	}
	page, next, err := cut("ListVersionsByFunction", versions(f), func(v *thaw.Version) string { return versionKey(v.Number) }, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListVersionsByFunctionOutput{Versions: make([]types.FunctionConfiguration, len(page)), NextMarker: next}
	for i, v := range page {
		out.Versions[i] = *a.list(v, v.Number)
	}
	return out, nil
}

// versions lists $LATEST and the published versions by number.
func versions(f *thaw.Function) []*thaw.Version {
	all := []*thaw.Version{&f.Config}
	for i := range f.Published {
		all = append(all, &f.Published[i])
	}
	return all
}

// versionKey sorts as numbers do, $LATEST first.
func versionKey(number string) string {
	n, _ := strconv.Atoi(number) // not a number: $LATEST
	return fmt.Sprintf("%019d", n)
}

// deleteVersion deletes a published version and what is kept for it. AWS counts a version that is not there as deleted,
// as long as its function exists. The number is never used again.
func (a *API) deleteVersion(ctx context.Context, t target) error {
	_, err := a.update(ctx, t.name, func(f *thaw.Function) error {
		v := f.Version(t.qualifier)
		if v == nil {
			return errNothingToDo
		}
		var users []string
		for name, alias := range f.Aliases {
			if alias.Version == v.Number || alias.Other == v.Number {
				users = append(users, name)
			}
		}
		if len(users) > 0 {
			slices.Sort(users)
			return thaw.Errorf(thaw.CodeResourceConflict, "Unable to delete version because the following aliases reference it: [%s]", strings.Join(users, ", "))
		}
		f.Published = slices.DeleteFunc(f.Published, func(v thaw.Version) bool { return v.Number == t.qualifier })
		forget(f, t.qualifier)
		return nil
	})
	if errors.Is(err, state.ErrNotFound) {
		return a.notFound(target{name: t.name})
	}
	return err
}

// forget drops everything that is kept by qualifier, when what it names is deleted.
func forget(f *thaw.Function, qualifier string) {
	delete(f.Policies, qualifier)
	delete(f.Provisioned, qualifier)
	delete(f.EventInvoke, qualifier)
	delete(f.UpdateRuntimeOn, qualifier)
}
