"""How long a service that ends by itself stays down; that it comes back at all is seen through ./control."""

from meta.process.keep_up import next_pause


def pauses(*ups):
    found = [0.0]
    for up in ups:
        found.append(next_pause(found[-1], up))
    return found[1:]


def test_pauses_double_from_one_second_to_a_minute():
    assert pauses(*[5.0] * 9) == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_after_a_minute_of_service_the_first_pause_is_short_again():
    assert pauses(5, 5, 5, 61, 5) == [1, 2, 4, 1, 2]
