"""What is written of a model is read as the same model."""

from hypothesis import HealthCheck, given, settings

from floatip.model import Model
from floatip.reading.place import ConfigError
from floatip.reading.toml import writer
from floatip.reading.toml.document import parse
from floatip.reading.toml.reader import model_of
from tests.config.models import models


@given(models())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_the_text_of_any_model_is_read_as_that_model(model: Model) -> None:
    text = writer.text(model)
    read, _, problems = model_of(parse("floatip.toml", text.encode()))
    assert [problem for problem in problems if isinstance(problem, ConfigError)] == []
    assert read == model, text
    assert all(line.isprintable() for line in text.split("\n"))
