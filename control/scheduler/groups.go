package scheduler

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/scheduler/types"
	"github.com/google/uuid"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/state"
	trigger "thaw/trigger/scheduler"
)

// group gives a group, and says what AWS says where there is none.
func (a *API) group(ctx context.Context, name string) (*trigger.Group, error) {
	g, err := a.records.Group(ctx, name)
	if errors.Is(err, state.ErrNotFound) {
		return nil, noGroup(name)
	}
	return g, err
}

func (a *API) createScheduleGroup(ctx context.Context, in *sdk.CreateScheduleGroupInput) (*sdk.CreateScheduleGroupOutput, error) {
	tags, err := addTags(nil, in.Tags)
	if err != nil {
		return nil, err
	}
	a.making.Lock()
	defer a.making.Unlock()
	out := &sdk.CreateScheduleGroupOutput{ScheduleGroupArn: aws.String(trigger.GroupARN(a.account, *in.Name))}
	all, err := a.records.Groups(ctx, "")
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(g *trigger.Group) bool { return g.Name == *in.Name })
	switch {
	case i >= 0 && in.ClientToken != nil && all[i].Token == *in.ClientToken && maps.Equal(all[i].Tags, tags):
		return out, nil
	case i >= 0, *in.Name == trigger.DefaultGroup:
		return nil, conflict("Schedule group %s already exists.", *in.Name)
	case len(all) >= maxGroups:
		return nil, thaw.Errorf(thaw.CodeServiceQuota, "An account can have %d schedule groups. Delete one that is not needed.", maxGroups)
	}
	now := a.now().UTC()
	err = a.records.CreateGroup(ctx, &trigger.Group{Name: *in.Name, ID: uuid.NewString(), Tags: tags, Token: operation.Value(in.ClientToken), Created: now, Modified: now})
	if errors.Is(err, state.ErrExists) {
		err = conflict("Schedule group %s already exists.", *in.Name)
	}
	return out, storeError(err)
}

func (a *API) getScheduleGroup(ctx context.Context, in *sdk.GetScheduleGroupInput) (*sdk.GetScheduleGroupOutput, error) {
	g, err := a.group(ctx, *in.Name)
	if err != nil {
		return nil, err
	}
	s := a.summary(g)
	return &sdk.GetScheduleGroupOutput{Arn: s.Arn, Name: s.Name, State: s.State, CreationDate: s.CreationDate, LastModificationDate: s.LastModificationDate}, nil
}

func (a *API) summary(g *trigger.Group) types.ScheduleGroupSummary {
	s := types.ScheduleGroupSummary{
		Arn: aws.String(trigger.GroupARN(a.account, g.Name)), Name: &g.Name, State: types.ScheduleGroupStateActive,
		CreationDate: known(g.Created), LastModificationDate: known(g.Modified),
	}
	if g.Deleting {
		s.State = types.ScheduleGroupStateDeleting
	}
	return s
}

// known is nil for the times of the default group, which nobody made.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// deleteScheduleGroup answers when the schedules of the group are gone.
func (a *API) deleteScheduleGroup(ctx context.Context, in *sdk.DeleteScheduleGroupInput) (*sdk.DeleteScheduleGroupOutput, error) {
	if *in.Name == trigger.DefaultGroup {
		return nil, invalid("The default schedule group cannot be deleted.")
	}
	a.making.Lock()
	defer a.making.Unlock()
	err := a.records.DeleteGroup(ctx, *in.Name)
	if errors.Is(err, state.ErrNotFound) {
		return nil, noGroup(*in.Name)
	}
	return &sdk.DeleteScheduleGroupOutput{}, storeError(err)
}

func (a *API) listScheduleGroups(ctx context.Context, in *sdk.ListScheduleGroupsInput) (*sdk.ListScheduleGroupsOutput, error) {
	all, err := a.records.Groups(ctx, "")
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(all, func(g *trigger.Group) bool { return g.Name == trigger.DefaultGroup }) {
		all = append(all, &trigger.Group{Name: trigger.DefaultGroup})
		slices.SortFunc(all, func(x, y *trigger.Group) int { return strings.Compare(x.Name, y.Name) })
	}
	all = slices.DeleteFunc(all, func(g *trigger.Group) bool { return !strings.HasPrefix(g.Name, operation.Value(in.NamePrefix)) })
	part, next, err := page(all, func(g *trigger.Group) string { return g.Name }, in.NextToken, in.MaxResults)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListScheduleGroupsOutput{ScheduleGroups: make([]types.ScheduleGroupSummary, len(part)), NextToken: next}
	for i, g := range part {
		out.ScheduleGroups[i] = a.summary(g)
	}
	return out, nil
}

func (a *API) tagResource(ctx context.Context, in *sdk.TagResourceInput) (*sdk.TagResourceOutput, error) {
	err := a.changeTags(ctx, *in.ResourceArn, func(g *trigger.Group) (err error) {
		g.Tags, err = addTags(g.Tags, in.Tags)
		return err
	})
	return &sdk.TagResourceOutput{}, err
}

func (a *API) untagResource(ctx context.Context, in *sdk.UntagResourceInput) (*sdk.UntagResourceOutput, error) {
	err := a.changeTags(ctx, *in.ResourceArn, func(g *trigger.Group) error {
		for _, key := range in.TagKeys {
			delete(g.Tags, key)
		}
		return nil
	})
	return &sdk.UntagResourceOutput{}, err
}

func (a *API) changeTags(ctx context.Context, arn string, change func(*trigger.Group) error) error {
	name, err := a.groupOf(arn)
	if err != nil {
		return err
	}
	_, err = a.records.UpdateGroup(ctx, name, change)
	if errors.Is(err, state.ErrNotFound) {
		return noGroup(name)
	}
	return storeError(err)
}

func (a *API) listTagsForResource(ctx context.Context, in *sdk.ListTagsForResourceInput) (*sdk.ListTagsForResourceOutput, error) {
	name, err := a.groupOf(*in.ResourceArn)
	if err != nil {
		return nil, err
	}
	g, err := a.group(ctx, name)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListTagsForResourceOutput{Tags: []types.Tag{}}
	for _, key := range slices.Sorted(maps.Keys(g.Tags)) {
		out.Tags = append(out.Tags, types.Tag{Key: aws.String(key), Value: aws.String(g.Tags[key])})
	}
	return out, nil
}

// groupOf is the name of the group with that ARN.
func (a *API) groupOf(arn string) (string, error) {
	name, ok := strings.CutPrefix(arn, trigger.GroupARN(a.account, ""))
	if !ok {
		return "", notFound("Schedule group %s does not exist.", arn)
	}
	return name, nil
}

// addTags gives tags with more added, or says why they cannot be.
func addTags(present map[string]string, added []types.Tag) (map[string]string, error) {
	tags := map[string]string{}
	maps.Copy(tags, present)
	for _, t := range added {
		if strings.HasPrefix(strings.ToLower(*t.Key), "aws:") {
			return present, invalid("Tag key '%s' is not allowed: the prefix aws: is reserved. Choose another key.", *t.Key)
		}
		tags[*t.Key] = *t.Value
	}
	if len(tags) > maxTags {
		return present, thaw.Errorf(thaw.CodeServiceQuota, "A schedule group can have %d tags.", maxTags)
	}
	return tags, nil
}
