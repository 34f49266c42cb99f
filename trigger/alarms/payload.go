package alarms

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"thaw"
)

// What follows are CloudWatch's own forms: what a function gets is on the page "Invoke a Lambda function from an alarm", an
// event on "Alarm events and EventBridge". Queues and webhooks get the message that SNS passes on for an alarm, since there
// is no SNS here and what reads such queues and hooks on AWS expects it.

type stateForm struct {
	Value     State  `json:"value"`
	Reason    string `json:"reason"`
	Data      string `json:"reasonData,omitempty"`
	Timestamp string `json:"timestamp"`
	By        string `json:"actionsSuppressedBy,omitempty"`
	Why       string `json:"actionsSuppressedReason,omitempty"`
}

func formOf(s *Status) stateForm {
	return stateForm{s.Value, s.Reason, s.Data, s.Updated.UTC().Format(stampFormat), s.SuppressedBy, s.SuppressedReason()}
}

type alarmForm struct {
	Name          string     `json:"alarmName"`
	State         stateForm  `json:"state"`
	Previous      stateForm  `json:"previousState"`
	Configuration configForm `json:"configuration"`
}

type configForm struct {
	Description string      `json:"description,omitempty"`
	Metrics     []queryForm `json:"metrics,omitempty"`
	Rule        string      `json:"alarmRule,omitempty"`
	Suppressor  string      `json:"actionsSuppressor,omitempty"`
	Wait        int         `json:"actionsSuppressorWaitPeriod,omitempty"`
	Extension   int         `json:"actionsSuppressorExtensionPeriod,omitempty"`
}

type queryForm struct {
	ID         string    `json:"id"`
	Expression string    `json:"expression,omitempty"`
	Label      string    `json:"label,omitempty"`
	Stat       *statForm `json:"metricStat,omitempty"`
	Return     bool      `json:"returnData"`
}

type statForm struct {
	Metric struct {
		Namespace  string            `json:"namespace"`
		Name       string            `json:"name"`
		Dimensions map[string]string `json:"dimensions"`
	} `json:"metric"`
	Period int    `json:"period"`
	Stat   string `json:"stat"`
	Unit   string `json:"unit,omitempty"`
}

// form is the alarm in the form that functions and events have in common.
func (a *Alarm) form(account thaw.Account, t *Task) alarmForm {
	f := alarmForm{Name: a.Name, State: formOf(&t.New), Previous: formOf(&t.Old)}
	if a.Description != nil {
		f.Configuration.Description = *a.Description
	}
	if c := a.Composite; c != nil {
		f.Configuration.Rule, f.Configuration.Suppressor, f.Configuration.Wait, f.Configuration.Extension = c.Rule, c.Suppressor, c.Wait, c.Extension
		return f
	}
	for i := range a.Metric.Queries {
		q := &a.Metric.Queries[i]
		form := queryForm{ID: q.ID, Expression: q.Expression, Label: q.Label, Return: q.Return == nil || *q.Return}
		if !a.Metric.Math {
			form.ID = uuid.NewSHA1(uuid.NameSpaceURL, []byte(ARN(account, a.Name))).String()
		}
		if q.Expression == "" {
			form.Stat = &statForm{Period: q.Period, Stat: q.Stat, Unit: q.Unit}
			form.Stat.Metric.Namespace, form.Stat.Metric.Name, form.Stat.Metric.Dimensions = q.Namespace, q.Metric, map[string]string{}
			for _, d := range q.Dimensions {
				form.Stat.Metric.Dimensions[d.Name] = d.Value
			}
		}
		f.Configuration.Metrics = append(f.Configuration.Metrics, form)
	}
	return f
}

// forFunction is the event of an invocation.
func (a *Alarm) forFunction(account thaw.Account, t *Task) string {
	return encode(struct {
		Source    string    `json:"source"`
		ARN       string    `json:"alarmArn"`
		AccountID string    `json:"accountId"`
		Time      string    `json:"time"`
		Region    string    `json:"region"`
		Data      alarmForm `json:"alarmData"`
	}{"aws.cloudwatch", ARN(account, a.Name), account.ID, t.New.Updated.UTC().Format(stampFormat), account.Region, a.form(account, t)})
}

// Event is what the default event bus gets of a change of state.
type Event struct {
	ID         string // a UUID, the same each time the event is published again
	DetailType string
	Source     string
	Resource   string // the alarm's ARN
	At         time.Time
	Detail     json.RawMessage
}

func (a *Alarm) event(account thaw.Account, t *Task) Event {
	return Event{
		ID: t.ID, DetailType: "CloudWatch Alarm State Change", Source: "aws.cloudwatch", Resource: ARN(account, a.Name), At: t.New.Updated,
		Detail: json.RawMessage(encode(a.form(account, t))),
	}
}

type messageForm struct {
	Name         string   `json:"AlarmName"`
	Description  *string  `json:"AlarmDescription"`
	AccountID    string   `json:"AWSAccountId"`
	Configured   string   `json:"AlarmConfigurationUpdatedTimestamp"`
	New          State    `json:"NewStateValue"`
	Reason       string   `json:"NewStateReason"`
	ReasonData   string   `json:"NewStateReasonData,omitempty"`
	Changed      string   `json:"StateChangeTime"`
	Region       string   `json:"Region"`
	ARN          string   `json:"AlarmArn"`
	Old          State    `json:"OldStateValue"`
	OK           []string `json:"OKActions"`
	Alarm        []string `json:"AlarmActions"`
	Insufficient []string `json:"InsufficientDataActions"`
	Rule         string   `json:"AlarmRule,omitempty"`
	Trigger      any      `json:"Trigger,omitempty"`
}

type triggerForm struct {
	MetricName    string            `json:"MetricName,omitempty"`
	Namespace     string            `json:"Namespace,omitempty"`
	StatisticType string            `json:"StatisticType,omitempty"`
	Statistic     string            `json:"Statistic,omitempty"`
	Extended      string            `json:"ExtendedStatistic,omitempty"`
	Unit          *string           `json:"Unit,omitempty"`
	Dimensions    []dimensionForm   `json:"Dimensions,omitempty"`
	Metrics       []json.RawMessage `json:"Metrics,omitempty"`
	Period        int               `json:"Period"`
	Periods       int               `json:"EvaluationPeriods"`
	Datapoints    int               `json:"DatapointsToAlarm,omitempty"`
	Comparison    string            `json:"ComparisonOperator"`
	Threshold     json.RawMessage   `json:"Threshold"`
	Missing       string            `json:"TreatMissingData"`
	LowSample     string            `json:"EvaluateLowSampleCountPercentile"`
}

type dimensionForm struct {
	Value string `json:"value"`
	Name  string `json:"name"`
}

// simple are the statistics that are not extended, as SNS's messages write them.
var simple = map[string]string{"SampleCount": "SAMPLE_COUNT", "Sum": "SUM", "Average": "AVERAGE", "Minimum": "MINIMUM", "Maximum": "MAXIMUM"}

// message is what queues and webhooks get. Region is the region's code, where SNS has its name in words.
func (a *Alarm) message(account thaw.Account, t *Task) string {
	list := func(s State) []string { return append([]string{}, a.Actions[s]...) }
	m := messageForm{
		Name: a.Name, Description: a.Description, AccountID: account.ID, Configured: a.Updated.UTC().Format(stampFormat),
		New: t.New.Value, Reason: t.New.Reason, Changed: t.New.Updated.UTC().Format(stampFormat),
		Region: account.Region, ARN: ARN(account, a.Name), Old: t.Old.Value, OK: list(OK), Alarm: list(InAlarm), Insufficient: list(Insufficient),
	}
	if a.Composite != nil {
		m.Rule, m.ReasonData = a.Composite.Rule, t.New.Data
		return encode(m)
	}
	q := a.Metric.Returned()
	trigger := triggerForm{
		Period: a.Metric.Period(), Periods: a.Metric.Evaluation, Datapoints: a.Metric.Datapoints, Comparison: a.Metric.Comparison,
		Threshold: json.RawMessage(decimal(a.Metric.Threshold)), Missing: a.Metric.Missing, LowSample: a.Metric.LowSample,
	}
	if a.Metric.Math {
		for i := range a.Metric.Queries {
			trigger.Metrics = append(trigger.Metrics, snsQuery(&a.Metric.Queries[i]))
		}
	} else {
		trigger.MetricName, trigger.Namespace = q.Metric, q.Namespace
		if trigger.StatisticType, trigger.Statistic = "Statistic", simple[q.Stat]; trigger.Statistic == "" {
			trigger.StatisticType, trigger.Extended = "ExtendedStatistic", q.Stat
		}
		if q.Unit != "" {
			trigger.Unit = &q.Unit
		}
		trigger.Dimensions = snsDimensions(q)
	}
	m.Trigger = trigger
	return encode(m)
}

func snsDimensions(q *Query) []dimensionForm {
	var list []dimensionForm
	for _, d := range q.Dimensions {
		list = append(list, dimensionForm{Value: d.Value, Name: d.Name})
	}
	return list
}

func snsQuery(q *Query) json.RawMessage {
	type metric struct {
		Dimensions []dimensionForm `json:"Dimensions"`
		Name       string          `json:"MetricName"`
		Namespace  string          `json:"Namespace"`
	}
	type stat struct {
		Metric metric `json:"Metric"`
		Period int    `json:"Period"`
		Stat   string `json:"Stat"`
	}
	form := struct {
		Expression string `json:"Expression,omitempty"`
		ID         string `json:"Id"`
		Label      string `json:"Label,omitempty"`
		Stat       *stat  `json:"MetricStat,omitempty"`
		Return     bool   `json:"ReturnData"`
	}{Expression: q.Expression, ID: q.ID, Label: q.Label, Return: q.Return == nil || *q.Return}
	if q.Expression == "" {
		form.Stat = &stat{Metric: metric{append([]dimensionForm{}, snsDimensions(q)...), q.Metric, q.Namespace}, Period: q.Period, Stat: q.Stat}
	}
	return json.RawMessage(encode(form))
}
