package main

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"

	"thaw/telemetry/exposition"
	"thaw/telemetry/metrics"
)

// exposed are the names that /metrics can have.
func exposed(t *testing.T) []string {
	t.Helper()
	e := exposition.New(exposition.Config{})
	m, err := metrics.Open(metrics.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	exposeMetrics(e, m)
	exposePlatform(e, nil, nil, nil, nil)
	// Of the client library, and of Prometheus itself.
	return append(e.Names(), "process_resident_memory_bytes", "process_cpu_seconds_total", "go_memstats_heap_inuse_bytes", "up")
}

// checkQuery reads a query with Prometheus's own parser, and looks up every metric that it names.
func checkQuery(t *testing.T, where, query string, names []string) {
	t.Helper()
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		t.Errorf("%s: %s: %v", where, query, err)
		return
	}
	found := 0
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		found++
		for _, m := range selector.LabelMatchers {
			if m.Name == model.MetricNameLabel && !slices.Contains(names, m.Value) {
				t.Errorf("%s: there is no metric %s", where, m.Value)
			}
		}
		return nil
	})
	if found == 0 {
		t.Errorf("%s: %s asks for no metric", where, query)
	}
}

var variable = regexp.MustCompile(`\$(__rate_interval|function)`)

func TestDashboardsAskForMetricsThatExist(t *testing.T) {
	names := exposed(t)
	files, err := filepath.Glob("../../dashboards/grafana-*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var board struct {
			UID    string
			Panels []struct {
				ID      int
				Title   string
				Targets []struct{ Expr string }
			}
			Templating struct {
				List []struct{ Name, Query string }
			}
		}
		if err := json.Unmarshal(text, &board); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if board.UID == "" || len(board.Panels) == 0 {
			t.Errorf("%s has no uid or no panels", file)
		}
		ids := map[int]bool{}
		for _, panel := range board.Panels {
			if ids[panel.ID] {
				t.Errorf("%s: two panels have the id %d", file, panel.ID)
			}
			ids[panel.ID] = true
			for _, target := range panel.Targets {
				query := variable.ReplaceAllStringFunc(target.Expr, func(v string) string {
					if v == "$function" {
						return ".*"
					}
					return "5m"
				})
				checkQuery(t, filepath.Base(file)+": "+panel.Title, query, names)
			}
		}
		for _, v := range board.Templating.List {
			if args, ok := strings.CutPrefix(v.Query, "label_values("); ok {
				name, _, _ := strings.Cut(args, ",")
				checkQuery(t, filepath.Base(file)+": variable "+v.Name, name, names)
			}
		}
	}
}

func TestAlertsAreRulesOfMetricsThatExist(t *testing.T) {
	names := exposed(t)
	text, err := os.ReadFile("../../dashboards/prometheus-alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	groups, errs := rulefmt.Parse(text, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
	if groups == nil || len(groups.Groups) == 0 {
		t.Fatal("no groups")
	}
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			checkQuery(t, rule.Alert, rule.Expr, names)
		}
	}
}
