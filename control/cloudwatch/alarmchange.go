package cloudwatch

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/google/uuid"

	"thaw"
	"thaw/state"
	"thaw/trigger/alarms"
)

// deleteAlarms deletes the alarms, or none where a mistake is found. Names of which there is no alarm are left out, as on AWS.
func (a *API) deleteAlarms(ctx context.Context, in *cloudwatch.DeleteAlarmsInput) (*cloudwatch.DeleteAlarmsOutput, error) {
	there, err := a.alarmsByName(ctx)
	if err != nil {
		return nil, err
	}
	composites := 0
	for _, name := range in.AlarmNames {
		if x := there[name]; x != nil && x.Composite != nil {
			composites++
		}
	}
	if composites > 1 {
		return nil, bad("One request can delete one composite alarm, not %d.", composites)
	}
	for _, parent := range there {
		for _, child := range children(parent) {
			if slices.Contains(in.AlarmNames, child) && !slices.Contains(in.AlarmNames, parent.Name) {
				return nil, bad("Cannot delete %s as there are composite alarm(s) depending on it: %s. Delete those first, or change their AlarmRule.", child, parent.Name)
			}
		}
	}
	now := a.now().UTC()
	for _, name := range in.AlarmNames {
		id := uuid.NewString()
		err := a.cfg.Alarms.Delete(ctx, name, func(x *alarms.Alarm) alarms.Item { return x.Configured("Delete", id, now, a.shown(x)) })
		if err != nil && !errors.Is(err, state.ErrNotFound) {
			return nil, alarmError(err, name)
		}
	}
	return &cloudwatch.DeleteAlarmsOutput{}, nil
}

// setAlarmState sets a state until the next evaluation.
func (a *API) setAlarmState(ctx context.Context, in *cloudwatch.SetAlarmStateInput) (*cloudwatch.SetAlarmStateOutput, error) {
	if in.StateReasonData != nil && *in.StateReasonData != "" && !json.Valid([]byte(*in.StateReasonData)) {
		return nil, thaw.Errorf(thaw.CodeFormatFault, "StateReasonData was not syntactically valid JSON.")
	}
	_, err := a.cfg.Alarms.Update(ctx, *in.AlarmName, func(x *alarms.Alarm) error {
		x.Set(alarms.State(in.StateValue), *in.StateReason, value(in.StateReasonData), a.now().UTC())
		return nil
	})
	return &cloudwatch.SetAlarmStateOutput{}, alarmError(err, *in.AlarmName)
}

func (a *API) enableAlarmActions(ctx context.Context, in *cloudwatch.EnableAlarmActionsInput) (*cloudwatch.EnableAlarmActionsOutput, error) {
	return &cloudwatch.EnableAlarmActionsOutput{}, a.switchActions(ctx, in.AlarmNames, true)
}

func (a *API) disableAlarmActions(ctx context.Context, in *cloudwatch.DisableAlarmActionsInput) (*cloudwatch.DisableAlarmActionsOutput, error) {
	return &cloudwatch.DisableAlarmActionsOutput{}, a.switchActions(ctx, in.AlarmNames, false)
}

var errSame = errors.New("nothing to change")

// switchActions turns the actions of alarms on or off. Names of which there is no alarm are left out, as on AWS.
func (a *API) switchActions(ctx context.Context, names []string, on bool) error {
	for _, name := range names {
		_, err := a.cfg.Alarms.Update(ctx, name, func(x *alarms.Alarm) error {
			if x.Enabled == on {
				return errSame
			}
			x.Enabled = on
			a.noteChange(x, "Update")
			return nil
		})
		if err != nil && !errors.Is(err, errSame) && !errors.Is(err, state.ErrNotFound) {
			return alarmError(err, name)
		}
	}
	return nil
}

func noAlarmARN(arn string) error {
	return thaw.Errorf(thaw.CodeResourceNotFound, "There is no resource with tags %s: tags are on alarms.", arn)
}

func (a *API) alarmOf(arn string) (string, error) {
	name, ok := strings.CutPrefix(arn, alarms.ARN(a.cfg.Account, ""))
	if !ok || name == "" {
		return "", noAlarmARN(arn)
	}
	return name, nil
}

func (a *API) changeAlarmTags(ctx context.Context, arn string, change func(map[string]string) (map[string]string, error)) error {
	name, err := a.alarmOf(arn)
	if err != nil {
		return err
	}
	_, err = a.cfg.Alarms.Update(ctx, name, func(x *alarms.Alarm) (err error) {
		x.Tags, err = change(x.Tags)
		return err
	})
	if errors.Is(err, state.ErrNotFound) {
		return noAlarmARN(arn)
	}
	return alarmError(err, name)
}

func (a *API) tagAlarm(ctx context.Context, in *cloudwatch.TagResourceInput) (*cloudwatch.TagResourceOutput, error) {
	return &cloudwatch.TagResourceOutput{}, a.changeAlarmTags(ctx, *in.ResourceARN, func(tags map[string]string) (map[string]string, error) {
		return addAlarmTags(tags, in.Tags)
	})
}

func (a *API) untagAlarm(ctx context.Context, in *cloudwatch.UntagResourceInput) (*cloudwatch.UntagResourceOutput, error) {
	return &cloudwatch.UntagResourceOutput{}, a.changeAlarmTags(ctx, *in.ResourceARN, func(tags map[string]string) (map[string]string, error) {
		maps.DeleteFunc(tags, func(key, _ string) bool { return slices.Contains(in.TagKeys, key) })
		return tags, nil
	})
}

func (a *API) listAlarmTags(ctx context.Context, in *cloudwatch.ListTagsForResourceInput) (*cloudwatch.ListTagsForResourceOutput, error) {
	name, err := a.alarmOf(*in.ResourceARN)
	if err != nil {
		return nil, err
	}
	x, err := a.cfg.Alarms.Get(ctx, name)
	if errors.Is(err, state.ErrNotFound) {
		return nil, noAlarmARN(*in.ResourceARN)
	}
	if err != nil {
		return nil, alarmError(err, name)
	}
	out := &cloudwatch.ListTagsForResourceOutput{Tags: []types.Tag{}}
	for _, key := range slices.Sorted(maps.Keys(x.Tags)) {
		text := x.Tags[key]
		out.Tags = append(out.Tags, types.Tag{Key: &key, Value: &text})
	}
	return out, nil
}

// addAlarmTags gives tags with others added, or says why they cannot be.
func addAlarmTags(tags map[string]string, added []types.Tag) (map[string]string, error) {
	if len(added) == 0 {
		return tags, nil
	}
	out := maps.Clone(tags)
	if out == nil {
		out = map[string]string{}
	}
	for _, t := range added {
		if strings.HasPrefix(strings.ToLower(*t.Key), "aws:") {
			return nil, invalid("Tag key %s is not allowed: the prefix aws: is reserved. Choose another key.", *t.Key)
		}
		out[*t.Key] = value(t.Value)
	}
	if len(out) > maxAlarmTags {
		return nil, invalid("An alarm can have %d tags.", maxAlarmTags)
	}
	return out, nil
}
