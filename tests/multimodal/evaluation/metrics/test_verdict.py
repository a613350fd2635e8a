"""Verdicts of a judge, by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.evaluation.metrics.verdict import read_verdict


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("{'pred': 'yes', 'score': 4}", (True, 4)),
        ('{"pred": "no", "score": 0}', (False, 0)),
        ("Sure!\n```python\n{'pred': 'Yes.', 'score': 4.8}\n```", (True, 4)),
        ("{'pred': 'no', 'score': 1}, {'pred': 'yes', 'score': 5}", (False, 1)),
        ('{"pred": "yes", "score": 3, "why": "alike"}', (True, 3)),
        ("{'pred': 'no'}", None),
        ("{'score': 3}", None),
        ("{'pred': 'maybe', 'score': 3}", None),
        ("{'pred': True, 'score': 3}", None),
        ("{'pred': 'yes', 'score': True}", None),
        ("{'pred': 'yes', 'score': '4'}", None),
        ("{'pred': 'yes', 'score': 6}", None),
        ("{'pred': 'yes', 'score': -1}", None),
        ('{"pred": "yes", "score": NaN}', None),
        ("{'pred': yes, 'score': 4}", None),
        ("{'pred', 'yes'}", None),
        ("{{'pred': 'yes', 'score': 4}}", (True, 4)),
        ("{__import__('os').abort()}", None),
        ("yes", None),
        ("", None),
        ("{" * 9000, None),
        ("{" + "(" * 3000 + "}", None),
    ],
)
def test_verdicts(reply, expected):
    assert read_verdict(reply) == expected


@given(st.text(alphabet="{}'\":, predscoyn0123456789.", max_size=40))
def test_anything_is_a_verdict_or_none(reply):
    found = read_verdict(reply)
    assert found is None or 0 <= found.score <= 5
