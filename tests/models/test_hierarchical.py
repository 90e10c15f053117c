from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hf_crosstask.errors import InputError
from hf_crosstask.models.adapters import LoraSettings
from hf_crosstask.models.export_hierarchical import export_fed_task, load_fed_task
from hf_crosstask.models.feeds import CrossLevelAttention, Shortcut
from hf_crosstask.models.fusion import Activity
from hf_crosstask.models.hierarchical import FEED, feed_state
from hf_crosstask.models.hierarchy import LEVEL_1, LEVEL_2, hierarchical_layout
from hf_crosstask.recipe.schema import Strategy

#: Each family with one of the feeds: positions (roberta) and scales (gemma2) of embeddings differ.
PAIRS = [("bert", "attention"), ("roberta", "shortcut"), ("phi3", "attention"), ("gemma2", "shortcut")]
FEEDS = ["attention", "shortcut"]
LORA = LoraSettings(r=4, dropout=0.0)


@pytest.fixture(scope="module")
def hierarchical(build, cards):
    """A model of S3b."""

    def make(family, *, noise=0.0, **keys):
        strategy = Strategy(name="S3b", **keys)
        return build(family, noise=noise, lora=hierarchical_layout(strategy, LORA, cards), head_dropout=0.0)

    return make


def inputs(batch, task):
    rows = len(batch["input_ids"])
    extra = {"entity_positions": torch.tensor([[1, 3]] * rows)} if task == "treats" else {}
    return {"task": task, **batch, **extra}


@torch.no_grad()
@pytest.mark.parametrize(("family", "feed"), PAIRS)
def test_training_starts_where_s2_does(hierarchical, build, tiny, family, feed):
    model, plain, batch = hierarchical(family, feed=feed), build(family, lora=LORA), tiny(family).encoded()
    for task in model.tasks:
        expected = plain(**inputs(batch, task)).logits
        assert torch.allclose(model(**inputs(batch, task)).logits, expected, rtol=0, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("feed", FEEDS)
def test_level_2_reads_level_1(hierarchical, tiny, feed):
    model, batch = hierarchical("bert", feed=feed, noise=0.05), tiny("bert").encoded()
    before = {task: model(**inputs(batch, task)).logits for task in model.tasks}
    for name, parameter in model.named_parameters():
        if f".{LEVEL_1}." in name:
            parameter.mul_(1.5)
    after = {task: model(**inputs(batch, task)).logits for task in model.tasks}
    assert all(not torch.equal(before[task], after[task]) for task in model.tasks)
    for name, parameter in model.named_parameters():
        if f".{LEVEL_2}." in name or name.startswith("feed."):
            parameter.mul_(1.5)
    assert torch.equal(model(**inputs(batch, "drugs")).logits, after["drugs"])  # level 1 reads nothing of level 2


@torch.no_grad()
@pytest.mark.parametrize(("family", "feed"), PAIRS)
def test_padding_changes_nothing(hierarchical, tiny, family, feed):
    model, batch = hierarchical(family, feed=feed, noise=0.05), tiny(family).encoded()
    together = model(**inputs(batch, "answer")).logits
    for row, size in enumerate(batch["attention_mask"].sum(dim=1).tolist()):
        alone = {name: values[row : row + 1, :size] for name, values in batch.items()}
        torch.testing.assert_close(model(**inputs(alone, "answer")).logits[0], together[row], rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("family", "feed"), [("bert", "attention"), ("phi3", "attention"), ("phi3", "shortcut")])
def test_a_decoder_does_not_look_ahead(hierarchical, tiny, family, feed):
    model, batch = hierarchical(family, feed=feed, noise=0.05), tiny(family).encoded()
    changed = {name: values.clone() for name, values in batch.items()}
    position = int(batch["attention_mask"].sum(dim=1).min()) - 1
    changed["input_ids"][:, position] = 7
    states, other = model.states("answer", batch), model.states("answer", changed)
    same = torch.equal(states[:, :position], other[:, :position])
    assert same == (family == "phi3")
    assert not torch.equal(states[:, position], other[:, position])


def gradients(model, batch, task="treats"):
    model.zero_grad(set_to_none=True)
    model.train()
    torch.manual_seed(0)  # of dropout
    labels = torch.tensor([0, 1, 1])
    model(labels=labels, **inputs(batch, task)).loss.backward()
    return {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}


@pytest.mark.parametrize("feed", FEEDS)
def test_detach_keeps_level_2_losses_from_level_1(hierarchical, tiny, feed):
    batch = tiny("bert").encoded()
    for detach in (False, True):
        model = hierarchical("bert", feed=feed, detach=detach, noise=0.05)
        found = gradients(model, batch)
        level_1 = [name for name in found if f".{LEVEL_1}." in name]
        assert bool(level_1) is not detach
        assert any(f".{LEVEL_2}." in name for name in found)
        assert any(name.startswith("feed.") for name in found)
        assert {name.split(".")[1] for name in found if name.startswith("heads.")} == {"treats"}
        trained_by = {name: model.users(name) for name, each in model.named_parameters() if each.requires_grad}
        assert set(found) == {name for name, users in trained_by.items() if "treats" in users}


def test_shared_groups_go_by_users(hierarchical):
    every, upper = ("drugs", "answer", "treats"), ("answer", "treats")
    for detach, expected in ((False, [every, upper]), (True, [every, upper])):
        groups = hierarchical("bert", detach=detach).shared_groups()
        assert [group.users for group in groups] == expected
        names = {group.users: {name for name, _ in group.parameters} for group in groups}
        assert all(f".{LEVEL_2}." in name or name.startswith("feed.") for name in names[upper])
        assert any(f".{LEVEL_1}." in name for name in names[every]) is not detach


@pytest.mark.parametrize(("family", "feed"), [("bert", "attention"), ("phi3", "shortcut")])
def test_activation_checkpointing_gives_the_same_gradients(hierarchical, tiny, family, feed):
    batch = tiny(family).encoded()
    model = hierarchical(family, feed=feed, noise=0.05)
    expected = gradients(model, batch)
    model.activation_checkpointing_enable(activation_checkpointing_kwargs=None)
    found = gradients(model, batch)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-7)


def test_counts_and_saved_files(hierarchical, tmp_path):
    model = hierarchical("bert", feed="shortcut")
    counts = model.parameter_counts()
    assert counts["trainable"] == counts["heads"] + counts["feed"] + sum(counts["per_adapter"].values())
    assert counts["per_adapter"][LEVEL_1] == counts["per_adapter"]["shared"] // 2
    model.save_pretrained(tmp_path)
    assert (tmp_path / FEED).is_file()
    assert {path.name for path in (tmp_path / "adapters").iterdir()} >= {"shared", LEVEL_1, LEVEL_2}
    assert model.operations("drugs") == (1.0, 1.0)
    assert model.operations("treats") == (2.0, 2.0)
    assert hierarchical("bert", detach=True).operations("treats") == (2.0, 1.0)
    assert feed_state(model).keys() == model.feed.state_dict().keys()


@torch.no_grad()
def test_cross_level_attention_is_what_it_says():
    torch.manual_seed(0)
    feed = CrossLevelAttention(8, causal=True, std=0.5)
    torch.nn.init.normal_(feed.output.weight)
    upper, lower = torch.randn(1, 3, 8), torch.randn(1, 3, 8)
    got = feed.states(upper, lower, torch.tensor([[1, 1, 1]]))
    normed = feed.lower_norm(lower)
    for position in range(3):
        seen = normed[:, : position + 1]
        weights = (feed.query(feed.upper_norm(upper))[:, position] @ feed.key(seen)[0].T / 8**0.5).softmax(-1)
        expected = upper[:, position] + feed.output(weights @ feed.value(seen)[0])
        torch.testing.assert_close(got[:, position], expected)


@torch.no_grad()
def test_the_shortcut_carries_posteriors(build):
    head = build("bert").head("drugs")
    size = head.output.in_features
    feed = Shortcut(size, head.output.out_features, std=0.1)
    torch.nn.init.normal_(feed.output.weight)
    lower = torch.randn(2, 4, size)
    posteriors = head.eval()(lower, torch.ones(2, 4)).softmax(-1)
    expected = feed.output(feed.inner(torch.cat([feed.norm(lower), posteriors], dim=-1)))
    torch.testing.assert_close(feed.embeddings(lower, [head]), expected)


def test_a_hierarchy_needs_two_levels(cards):
    with pytest.raises(InputError, match=r"no task is of level 1: answer \(level 2\), treats \(level 2\)"):
        hierarchical_layout(Strategy(name="S3b"), LORA, cards[1:])
    with pytest.raises(InputError, match="no task is of level 2"):
        hierarchical_layout(Strategy(name="S3b"), LORA, cards[:1])
    posed = [cards[0], cards[1].model_copy(update={"formulation": "generative"})]
    with pytest.raises(InputError, match="'answer' is posed to the language model"):
        hierarchical_layout(Strategy(name="S3b"), LORA, posed)


def test_the_first_pass_leaves_nothing_active(hierarchical, tiny):
    model, batch = hierarchical("bert", noise=0.05), tiny("bert").encoded()
    model(**inputs(batch, "treats"))
    assert model.fusion.active == Activity(("shared", LEVEL_2))


@torch.no_grad()
@pytest.mark.parametrize(("family", "feed"), PAIRS)
def test_an_exported_task_gives_the_same_logits(build, tiny, cards, tmp_path, family, feed):
    layout = hierarchical_layout(Strategy(name="S3b", feed=feed), replace(LORA, train_embeddings=True), cards)
    model, made = build(family, noise=0.05, lora=layout), tiny(family)
    batch = inputs(made.encoded(), "treats")
    export_fed_task(
        model, cards[2], [cards[0]], tmp_path, tokenizer=made.tokenizer, base_model=made.source.name_or_path
    )
    loaded = load_fed_task(tmp_path)
    torch.testing.assert_close(loaded(**batch).logits, model(**batch).logits, rtol=0, atol=1e-5)
    with pytest.raises(InputError, match="holds no level-2 task of a hierarchy"):
        load_fed_task(tmp_path / "level1")
