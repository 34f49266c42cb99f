package edge

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"thaw"
	"thaw/invoke"
	"thaw/placement"
	"thaw/template"
)

// deployed is a catalog of functions by name, and what they have: a version has as many environments as its number says.
type deployed []*thaw.Function

func (d deployed) Function(name string) (*thaw.Function, bool) {
	for _, f := range d {
		if f.Name == name {
			return f, true
		}
	}
	return nil, false
}

func (d deployed) Functions(after string, limit int) (page []*thaw.Function) {
	for _, f := range d {
		if f.Name > after && len(page) < limit {
			page = append(page, f)
		}
	}
	return page
}

func (deployed) Report(v *thaw.Version) placement.Report {
	r := placement.Report{Template: template.Report{State: template.StateEvicted}}
	r.Environments.Wanted = 2
	if v.Number == "2" {
		r.Provisioned = placement.Provisioned{Wanted: 3, Allocated: 2, Available: 1}
	}
	return r
}

func (deployed) Totals() placement.Totals {
	return placement.Totals{Environments: 7, MaxEnvironments: 10}
}

func TestNativeViewOfFunctions(t *testing.T) {
	var d deployed
	reserved := 5
	for n := range functionsPage + 1 {
		v := thaw.Version{Number: thaw.Latest, State: thaw.StateActive}
		f := &thaw.Function{Name: fmt.Sprintf("f%03d", n), Config: v, Running: &v, Reserved: &reserved}
		for _, number := range []string{"1", "2", "3"} {
			f.Published = append(f.Published, thaw.Version{Number: number, State: thaw.StateActive})
		}
		f.Published[2].State, f.Published[2].StateReason = thaw.StateInactive, "The function is currently idle."
		d = append(d, f)
	}
	server := newServer(t)
	s := New(Config{
		Services: server.cfg.Services, Catalog: d, Placement: d, Download: http.NotFoundHandler(), Log: slog.New(slog.DiscardHandler),
		Invoker: invoke.New(invoke.Config{Catalog: nothing{}, Placer: nothing{}, Concurrency: 10}),
	})
	ask := func(path string, answer any) {
		t.Helper()
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Host = "localhost"
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if err := json.Unmarshal(w.Body.Bytes(), answer); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%s: %d %v %s", path, w.Code, err, w.Body)
		}
	}
	var page functionsView
	ask("/_thaw/functions", &page)
	if len(page.Functions) != functionsPage || page.After != "f099" || page.Node.Environments != 7 || page.Account.Limit != 10 {
		t.Errorf("%d functions, then those after %q, %+v, %+v", len(page.Functions), page.After, page.Node, page.Account)
	}
	if v := page.Functions[0].Versions; len(v) != 2 || v[1].Version != "2" || v[1].Provisioned.Available != 1 {
		t.Errorf("of its versions are listed %+v", v)
	}
	page = functionsView{}
	ask("/_thaw/functions?after=f099", &page)
	if len(page.Functions) != 1 || page.After != "" {
		t.Errorf("the last page has %d functions, then those after %q", len(page.Functions), page.After)
	}
	var one functionView
	ask("/_thaw/functions/f000", &one)
	if len(one.Versions) != 4 || *one.Reserved != 5 || one.Version != thaw.Latest || one.Template.State != template.StateEvicted {
		t.Errorf("%+v", one)
	}
	if v := one.Versions[3]; v.State != "Inactive" || v.StateReason != "The function is currently idle." || v.Template.State != "" {
		t.Errorf("%+v", v)
	}
}
