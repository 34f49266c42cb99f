package edge

import (
	"encoding/json"
	"net/http"

	"thaw"
	"thaw/invoke"
	"thaw/placement"
	"thaw/template"
)

// functionsPage is how many functions one answer of the native API lists at most.
const functionsPage = 100

// functionView is what the platform knows of a function and AWS's API has no place for. The report is $LATEST's.
type functionView struct {
	Name    string `json:"name"`
	Version string `json:"function_version"`
	State   string `json:"state"`
	placement.Report
	Reserved *int          `json:"reserved_concurrency,omitempty"`
	Usage    invoke.Usage  `json:"usage"`
	Versions []versionView `json:"versions"`
}

// versionView is a version's part of it.
type versionView struct {
	Version         string `json:"version"`
	State           string `json:"state"`
	StateReason     string `json:"state_reason,omitempty"`
	StateReasonCode string `json:"state_reason_code,omitempty"`
	placement.Report
}

// functionsView is a page of functions, and the node.
type functionsView struct {
	Node      placement.Totals    `json:"node"`
	Account   invoke.AccountUsage `json:"account"`
	Functions []functionView      `json:"functions"`
	After     string              `json:"after,omitempty"` // what the next page is asked for with; empty: this is the last
}

// serveFunctions lists the functions by name, of each the versions that take part of the node.
func (s *Server) serveFunctions(w http.ResponseWriter, r *http.Request) {
	functions := s.cfg.Catalog.Functions(r.URL.Query().Get("after"), functionsPage)
	view := functionsView{Node: s.cfg.Placement.Totals(), Account: s.cfg.Invoker.AccountUsage(), Functions: make([]functionView, len(functions))}
	for i, f := range functions {
		view.Functions[i] = s.view(f, versionView.present)
	}
	if len(functions) == functionsPage {
		view.After = functions[len(functions)-1].Name
	}
	writeView(w, &view)
}

// serveFunction shows one function with all of its versions.
func (s *Server) serveFunction(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	f, ok := s.cfg.Catalog.Function(name)
	if !ok {
		s.cfg.Services[lambdaService].WriteError(w, r, thaw.Errorf(thaw.CodeResourceNotFound, "Function not found: %s", s.cfg.Account.FunctionARN(name, "")))
		return
	}
	view := s.view(f, func(versionView) bool { return true })
	writeView(w, &view)
}

func (s *Server) view(f *thaw.Function, show func(versionView) bool) functionView {
	latest := s.version(f, &f.Config)
	view := functionView{
		Name: f.Name, Version: f.Config.Number, State: latest.State, Report: latest.Report,
		Reserved: f.Reserved, Usage: s.cfg.Invoker.Usage(f.Name), Versions: []versionView{latest},
	}
	for i := range f.Published {
		if v := s.version(f, &f.Published[i]); show(v) {
			view.Versions = append(view.Versions, v)
		}
	}
	return view
}

func (s *Server) version(f *thaw.Function, v *thaw.Version) versionView {
	view := versionView{Version: v.Number, State: string(v.State), StateReason: v.StateReason, StateReasonCode: v.StateReasonCode}
	if running := f.InForce(v.Number); running != nil {
		view.Report = s.cfg.Placement.Report(running)
	}
	return view
}

// present reports whether a version takes part of the node, or should.
func (v versionView) present() bool {
	environments := v.Environments
	environments.Wanted = 0 // a number of spares that a version which is not used has, too
	return environments != placement.Counts{} || v.Provisioned != placement.Provisioned{} || v.Template.State == template.StateReady
}

func writeView(w http.ResponseWriter, view any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(view) //nolint:errcheck,errchkjson // the client has gone
}
