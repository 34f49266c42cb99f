package lambda

import (
	"context"
	"maps"
	"strings"

	"thaw/control/internal/operation"
	"thaw/trigger/mapping"
)

// mappingOf gives the UUID of a mapping of this platform that a request about tags names, ok is false for anything else.
func (a *API) mappingOf(resource *string) (id string, ok bool) {
	if a.cfg.Mappings == nil {
		return "", false
	}
	return strings.CutPrefix(operation.Value(resource), a.mappingARN(""))
}

func (a *API) mappingTags(ctx context.Context, id string) (map[string]string, error) {
	m, err := a.getMapping(ctx, id)
	if err != nil {
		return nil, err
	}
	if m.Tags == nil {
		m.Tags = map[string]string{}
	}
	return m.Tags, nil
}

// tagMapping changes the tags of a mapping. Its revision stays: the loop has nothing to do about them.
func (a *API) tagMapping(ctx context.Context, id string, added map[string]string, removed []string) error {
	_, err := a.changeMapping(ctx, id, func(m *mapping.Mapping) error {
		if err := checkTags(m.Tags, added); err != nil {
			return err
		}
		if m.Tags == nil {
			m.Tags = map[string]string{}
		}
		maps.Copy(m.Tags, added)
		for _, key := range removed {
			delete(m.Tags, key)
		}
		return nil
	})
	return err
}
