"""States that are kept for later, within their room."""

import numpy as np

from debiasdpo.packing.kept_states import KeptStates, layers_at


def test_states_are_found_by_sequence_and_layer() -> None:
    kept = KeptStates((0.5, 1.0))
    layers = kept.layers(4)
    assert layers == [2, 4]
    rows = {
        (1, 2): np.array([[1, 2, 3], [4, 5, 6]], np.float32),
        (1, 2, 3): np.array([[7, 8, 9], [0, 1, 2]], np.float32),
    }
    for sequence, states in rows.items():
        kept.keep(sequence, dict(zip(layers, states, strict=True)))
    np.testing.assert_array_equal(kept.of((1, 2), [4, 2]), rows[1, 2][::-1])
    np.testing.assert_array_equal(kept.of((1, 2, 3), [4]), rows[1, 2, 3][1:])
    assert kept.of((2, 1), [2]) is None
    assert kept.of((1, 2), [2, 3]) is None


def test_no_more_is_kept_than_there_is_room_for() -> None:
    kept = KeptStates((1.0,), room=30)
    for name in range(3):
        kept.keep((name,), {2: np.zeros(3, np.float32)})  # 12 bytes each
    assert [kept.of((name,), [2]) is None for name in range(3)] == [False, False, True]


def test_layers_are_whole_and_each_once() -> None:
    assert layers_at((0.5, 0.75, 1.0), 24) == [12, 18, 24]
    assert layers_at((0.1, 0.5, 0.75, 1.0), 2) == [1, 2]
