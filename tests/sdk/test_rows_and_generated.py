"""Models without tokens in their answers: rows of classic models, tensors of Hugging Face's generate."""

from types import SimpleNamespace

import numpy as np
import pytest

import pennytrace
from pennytrace import Usage, generated, observe, rows


@pytest.mark.parametrize(
    ("result", "count"),
    [
        (np.zeros(7), 7),
        (np.zeros((3, 2)), 3),
        (np.float64(0.5), 1),
        ([0, 1, 1], 3),
        ((0.1,), 1),
        ([], 0),
        (0.7, 1),
        ("spam", 1),
        ({"label": np.zeros(4), "score": np.zeros((4, 2))}, 4),
    ],
)
def test_rows_are_counted_in_whatever_a_model_predicts(result, count):
    assert rows(result) == Usage(rows=count)


@pytest.mark.parametrize("result", [None, {}])
def test_no_prediction_is_unknown(result):
    assert rows(result) is None


def test_rows_of_a_real_scikit_learn_model_reach_the_span(spans):
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    predict = observe(endpoint="/score", model="fraud-v7", provider="sklearn", usage=rows)(model.predict)
    predict([[0.2], [0.8], [0.9]])
    attributes = spans.one().attributes
    assert attributes["pennytrace.usage.rows"] == 3
    assert attributes["gen_ai.operation.name"] == "predict"
    assert not [name for name in attributes if name.startswith("gen_ai.usage")]


PROMPT = np.array([[9, 9, 1, 2], [1, 2, 3, 4]])
MASK = np.array([[0, 0, 1, 1], [1, 1, 1, 1]])
SEQUENCES = np.concatenate([PROMPT, np.array([[5, 6, 9], [5, 6, 7]])], axis=1)


class GenerateDecoderOnlyOutput(SimpleNamespace):
    """Named as in transformers, where the name says what the sequences begin with."""


class GenerateEncoderDecoderOutput(SimpleNamespace):
    """As above."""


@pytest.mark.parametrize("output", [SEQUENCES, GenerateDecoderOnlyOutput(sequences=SEQUENCES)])
def test_generated_tokens_are_what_stands_behind_the_prompt_without_padding(output):
    inputs = {"input_ids": PROMPT, "attention_mask": MASK}
    assert generated(output, inputs, pad_token_id=9) == Usage(input_tokens=6, output_tokens=5)
    assert generated(output, PROMPT) == Usage(input_tokens=8, output_tokens=6)
    assert generated(output, SimpleNamespace(**inputs)) == Usage(input_tokens=6, output_tokens=6)


def test_an_encoder_decoders_sequences_have_no_prompt():
    output = GenerateEncoderDecoderOutput(sequences=SEQUENCES)
    assert generated(output, PROMPT) == Usage(input_tokens=8, output_tokens=14)


def test_what_is_no_tensor_is_an_error_that_says_so():
    with pytest.raises(pennytrace.PennytraceError, match="expected inputs with a tensor"):
        generated(SEQUENCES, {"input_ids": [[1, 2]]})


def test_generated_usage_is_stated_with_record_usage(spans):
    @observe(endpoint="/generate", model="llama-3.1-8b", provider="huggingface")
    def generate():
        pennytrace.record_usage(generated(SEQUENCES, PROMPT))

    generate()
    assert spans.one().attributes["gen_ai.usage.output_tokens"] == 6


def test_rows_can_be_stated(spans):
    @observe(endpoint="/score", model="fraud-v7", provider="sklearn")
    def score():
        pennytrace.record_usage(rows=12)

    score()
    with observe(endpoint="/score", model="fraud-v7", provider="sklearn") as call:
        call.record_usage(rows=3)
    found = [span.attributes for span in spans.all()]
    assert [(told["pennytrace.usage.rows"], told["gen_ai.operation.name"]) for told in found] == [
        (12, "predict"),
        (3, "predict"),
    ]
