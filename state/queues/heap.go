package queues

// heap is a binary heap whose items know their place, so that any of them can be taken out.
type heap[T any] struct {
	items []T
	less  func(a, b T) bool
	at    func(item T, place int32) // tells an item where it is; -1: nowhere
}

func (h *heap[T]) push(item T) {
	h.items = append(h.items, item)
	h.at(item, int32(len(h.items)-1))
	h.up(len(h.items) - 1)
}

func (h *heap[T]) top() (item T, ok bool) {
	if len(h.items) == 0 {
		return item, false
	}
	return h.items[0], true
}

// remove takes out the item at a place.
func (h *heap[T]) remove(place int32) {
	i, last := int(place), len(h.items)-1
	item := h.items[i]
	if i != last {
		h.swap(i, last)
	}
	var none T
	h.items[last] = none
	h.items = h.items[:last]
	if i != last {
		h.fix(int32(i))
	}
	if last > 1024 && cap(h.items) > 4*last {
		h.items = append(make([]T, 0, 2*last), h.items...)
	}
	h.at(item, -1)
}

// fix brings the item at a place, whose order has changed, to where it belongs.
func (h *heap[T]) fix(place int32) {
	if !h.down(int(place)) {
		h.up(int(place))
	}
}

func (h *heap[T]) swap(i, j int) {
	h.items[i], h.items[j] = h.items[j], h.items[i]
	h.at(h.items[i], int32(i))
	h.at(h.items[j], int32(j))
}

func (h *heap[T]) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h.less(h.items[i], h.items[parent]) {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h *heap[T]) down(i int) (moved bool) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h.items); child++ {
			if h.less(h.items[child], h.items[least]) {
				least = child
			}
		}
		if least == i {
			return moved
		}
		h.swap(i, least)
		i, moved = least, true
	}
}
