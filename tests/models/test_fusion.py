from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch
from peft import (
    AutoPeftModelForCausalLM,
    AutoPeftModelForSequenceClassification,
    AutoPeftModelForTokenClassification,
    PeftModel,
)
from transformers import AutoModel

from hf_crosstask.errors import InputError
from hf_crosstask.models.adapter_layout import one_shared, only_private, shared_and_private
from hf_crosstask.models.adapters import LoraSettings
from hf_crosstask.models.dropout import dropped_linear
from hf_crosstask.models.export import export_task_adapter
from hf_crosstask.models.fusion import Activity
from hf_crosstask.models.precision import Precision
from hf_crosstask.models.quantization import compute_exactly_on_cpu, nf4
from hf_crosstask.models.task_adapter import task_adapter
from hf_crosstask.tasks.card import TaskCard

TASKS = ("drugs", "answer", "treats")
SHARED = LoraSettings(r=4, alpha=8, dropout=0.0)
PRIVATE = LoraSettings(r=2, alpha=6, dropout=0.0)
FUSIONS = ("sum", "gated", "attention")


@pytest.fixture(scope="module")
def make(build):
    def model(family="bert", fusion="sum", *, noise=0.05, shared=SHARED, private=PRIVATE, outside=(), **arguments):
        layout = shared_and_private(TASKS, shared, private, fusion=fusion, outside=outside)
        return build(family, noise=noise, lora=layout, **({"head_dropout": 0.0} | arguments))

    return model


@pytest.fixture(scope="module")
def batch(tiny):
    return tiny("bert").encoded()


def gradients(model, task, batch, **inputs):
    """Names of the parameters that a task's loss gives a gradient that is not zero."""
    model.zero_grad(set_to_none=True)
    labels = torch.ones(len(batch["input_ids"]), dtype=torch.long)
    if task == "drugs":
        labels = torch.where(batch["attention_mask"].bool(), 2, -100)
    if task == "treats":
        inputs["entity_positions"] = torch.tensor([[1, 2]] * len(labels))
    torch.manual_seed(0)
    model.train()(task=task, labels=labels, **batch, **inputs).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def by_hand(model, task, batch, fusion):
    """The backbone's states with each layer's updates computed from the definition in `fusion`'s table."""
    layers = list(model.fusion.layer_numbers(model.backbone).items())
    names = model.layout.uses[task]
    handles = []

    def hook(number):
        def replace(layer, arguments, _):
            (x,) = arguments
            low = [layer.lora_A[name](x) for name in names]
            if fusion == "sum":
                weights = [1.0] * len(names)
            elif fusion == "gated":
                weights = list(2 * torch.sigmoid(model.fusion.weights[f"private_{task}"][number]))
            else:
                queries = model.fusion.weights[f"private_{task}"][number].split([each.shape[-1] for each in low])
                scores = [(a @ q) / a.shape[-1] ** 0.5 for a, q in zip(low, queries, strict=True)]
                weights = list((2 * torch.softmax(torch.stack(scores), dim=0))[..., None])
            return layer.base_layer(x) + sum(
                w * layer.scaling[name] * layer.lora_B[name](a) for w, name, a in zip(weights, names, low, strict=True)
            )

        return replace

    for path, number in layers:
        handles.append(model.backbone.get_submodule(path).register_forward_hook(hook(number)))
    states = model.backbone(**batch).last_hidden_state
    for handle in handles:
        handle.remove()
    return states


@torch.no_grad()
@pytest.mark.parametrize("fusion", FUSIONS)
def test_each_fusion_is_what_its_table_says(make, batch, fusion):
    model = make(fusion=fusion)
    for task in TASKS[:2]:
        model.activate(task)
        torch.testing.assert_close(
            model.backbone(**batch).last_hidden_state, by_hand(model, task, batch, fusion), rtol=0, atol=1e-5
        )
    assert not torch.allclose(
        model(task="drugs", **batch).logits[..., :3], model(task="answer", **batch).logits[:, None]
    )


@torch.no_grad()
def test_all_fusions_start_as_the_sum(make, batch):
    outputs = []
    for fusion in FUSIONS:
        model = make(fusion=fusion, noise=0.0)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.full_like(parameter, 0.01))
        outputs.append(model(task="answer", **batch).logits)
    for other in outputs[1:]:
        torch.testing.assert_close(other, outputs[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_task_trains_what_it_uses_and_nothing_else(make, batch, fusion):
    model = make(fusion=fusion)
    for task in TASKS:
        found = gradients(model, task, batch)
        users = {name: model.users(name) for name, p in model.named_parameters() if p.requires_grad}
        assert found.keys() == {name for name, tasks in users.items() if task in tasks}
        assert all(gradient.abs().max() > 0 for name, gradient in found.items() if "lora_" in name or "fusion" in name)
    assert all(p.requires_grad for n, p in model.named_parameters() if "lora_" in n or "fusion" in n)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_tasks_outside_use_the_shared_adapter_as_a_constant(make, batch, fusion):
    whole, outside = make(fusion=fusion), make(fusion=fusion, outside=("answer",))
    expected, found = gradients(whole, "answer", batch), gradients(outside, "answer", batch)
    assert not any(".shared." in name for name in found)
    assert any(".shared." in name for name in expected)
    for name, gradient in found.items():  # everything else learns as if the shared adapter trained
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(whole.eval()(task="answer", **batch).logits, outside.eval()(task="answer", **batch).logits)
    assert any(".shared." in name for name in gradients(outside, "drugs", batch))
    assert outside.users("backbone.x.lora_A.shared.weight") == ("drugs", "treats")


def test_several_adapters_are_one_of_the_sum_of_their_ranks(make, build, batch):
    model = make()
    joint = build("bert", lora=one_shared(TASKS, replace(SHARED, r=6, alpha=6)), head_dropout=0.0)
    state, _ = task_adapter(model, "answer")
    own = dict(joint.named_parameters())
    with torch.no_grad():
        for path, value in state.items():
            own[f"backbone.{path.removesuffix('.weight')}.shared.weight"].copy_(value)
        for name, value in model.heads["answer"].named_parameters():
            own[f"heads.answer.{name}"].copy_(value)
    ours, theirs = (gradients(each, "answer", batch) for each in (model, joint))
    for path in state:
        name, side = f"backbone.{path.removesuffix('.weight')}", 0 if "lora_A" in path else 1
        parts = [ours[f"{name}.{adapter}.weight"] for adapter in ("shared", "private_answer")]
        if side:  # the joint one holds their scalings
            parts = [part / scaling for part, scaling in zip(parts, (2, 3), strict=True)]
        torch.testing.assert_close(torch.cat(parts, side), theirs[f"{name}.shared.weight"], rtol=1e-4, atol=1e-6)


class SameDropout(torch.nn.Module):
    """The dropout of `dropped_linear` as a module of its own, which draws the same numbers."""

    def forward(self, x):
        return dropped_linear(x, torch.eye(x.shape[-1]), torch.nn.Dropout(0.3)) if self.training else x


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("family", ["bert", "phi3"])
def test_one_adapter_is_what_peft_makes_of_it_with_the_same_dropout(build, tiny, family, quantization):
    ours, theirs = (
        build(
            family,
            noise=0.05,
            lora=replace(SHARED, dropout=0.3),
            head_dropout=0.0,
            precision=Precision("fp32", torch.float32, quantization),
        )
        for _ in range(2)
    )
    batch = tiny(family).encoded()
    for layer in theirs.fusion._layers:
        assert layer.lora_variant.pop("shared")
        layer.lora_dropout["shared"] = SameDropout()
    for task in TASKS[:2]:
        found, expected = gradients(ours, task, batch), gradients(theirs, task, batch)
        assert found.keys() == expected.keys()
        for name, gradient in found.items():
            torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)
        with torch.no_grad():
            assert torch.equal(ours.eval()(task=task, **batch).logits, theirs.eval()(task=task, **batch).logits)


@torch.no_grad()
@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_one_adapter_merges_as_pefts_own_does(build, batch, quantization):
    precision = Precision("fp32", torch.float32, quantization)
    ours, theirs = (
        build("bert", noise=0.05, lora=replace(SHARED, dropout=0.3), precision=precision).eval() for _ in range(2)
    )
    for layer in theirs.fusion._layers:
        assert layer.lora_variant.pop("shared")
    before = ours(task="answer", **batch).logits
    for safe in (False, True):
        for model in (ours, theirs):
            model.backbone.merge_adapter(safe_merge=safe)
        merged = ours(task="answer", **batch).logits
        assert torch.equal(merged, theirs(task="answer", **batch).logits)
        assert not torch.equal(merged, before)
        for model in (ours, theirs):
            model.backbone.unmerge_adapter()
        assert torch.equal(ours(task="answer", **batch).logits, theirs(task="answer", **batch).logits)


def test_one_adapter_without_dropout_is_pefts(build):
    assert not any(layer.lora_variant for layer in build("bert", lora=SHARED).fusion._layers)
    assert all(layer.lora_variant for layer in build("bert", lora=replace(SHARED, dropout=0.1)).fusion._layers)


def test_trained_embeddings_are_shared_and_constant_outside(make, batch):
    model = make(shared=LoraSettings(r=4, dropout=0.0, train_embeddings=True), outside=("answer",))
    embedded = [name for name, p in model.named_parameters() if "modules_to_save" in name and p.requires_grad]
    assert len(embedded) == 1
    assert embedded[0] in gradients(model, "drugs", batch)
    assert embedded[0] not in gradients(model, "answer", batch)
    assert model.users(embedded[0]) == ("drugs", "treats")


def test_shared_groups(make, build):
    (group,) = make().shared_groups()
    assert group.users == TASKS
    assert all(".shared." in name for name, _ in group.parameters)
    assert len(group.parameters) == 2 * 12
    (group,) = make(outside=("answer",)).shared_groups()
    assert group.users == ("drugs", "treats")
    assert build("bert", lora=only_private(TASKS, PRIVATE)).shared_groups() == []
    (group,) = build("bert", lora=None).shared_groups()
    assert group.users == TASKS
    assert not any("heads" in name for name, _ in group.parameters)
    (group,) = build("bert").shared_groups()
    assert all("lora_" in name for name, _ in group.parameters)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_recomputed_activations_are_those_of_their_own_forward(make, tiny, fusion):
    """Two forwards of different tasks before one backward."""
    plain, recomputed = make("llama", fusion, outside=("answer",)), make("llama", fusion, outside=("answer",))
    recomputed.activation_checkpointing_enable()
    made, inputs = [], tiny("llama").encoded()
    for model in (plain, recomputed):
        model.train()
        first = model(task="answer", labels=torch.ones(3, dtype=torch.long), **inputs).loss
        labels = torch.where(inputs["attention_mask"].bool(), 2, -100)
        (first + model(task="drugs", labels=labels, **inputs).loss).backward()
        made.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert made[0].keys() == made[1].keys()
    for name, gradient in made[0].items():
        torch.testing.assert_close(made[1][name], gradient, rtol=0, atol=1e-6)
    with pytest.raises(InputError, match="use_reentrant"):
        recomputed.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": True})


KINDS = {"drugs": AutoPeftModelForTokenClassification, "answer": AutoPeftModelForSequenceClassification}


@torch.no_grad()
@pytest.mark.parametrize("family", ["bert", "phi3", "gemma2"])
@pytest.mark.parametrize("fusion", ["sum", "gated"])
def test_a_task_exports_as_one_plain_adapter(make, tiny, cards, tmp_path, family, fusion):
    made = tiny(family)
    uneven = LoraSettings(r=4, alpha=8, dropout=0.0, use_rslora=True, ranks={"layers.0.mlp.down_proj": 5})
    if family == "bert":
        uneven = LoraSettings(
            r=4, alpha=8, dropout=0.0, ranks={"encoder.layer.1.output.dense": 5}, train_embeddings=True
        )
    model, batch = make(family, fusion, shared=uneven), made.encoded()
    for card in cards:
        folder = tmp_path / card.name
        source = made.source.name_or_path
        assert export_task_adapter(model, card, folder, tokenizer=made.tokenizer, base_model=source) == folder
        if card.name == "treats":
            model.activate("treats")
            theirs = PeftModel.from_pretrained(AutoModel.from_pretrained(source), folder).eval()
            ours = model.backbone(**batch).last_hidden_state
            torch.testing.assert_close(theirs(**batch).last_hidden_state, ours, rtol=0, atol=1e-5)
            continue
        theirs = KINDS[card.name].from_pretrained(folder, num_labels=5 if card.name == "drugs" else 3).eval()
        ours = model(task=card.name, **batch).logits
        kept = batch["attention_mask"].bool() if card.type == "ner" else slice(None)
        torch.testing.assert_close(theirs(**batch).logits[kept], ours[kept], rtol=0, atol=1e-5)
    assert sorted(model.backbone.peft_config) == ["private_answer", "private_drugs", "private_treats", "shared"]


def test_attention_says_what_is_needed(make, tiny, cards, tmp_path):
    made = tiny("bert")
    export_task_adapter(make(fusion="attention"), cards[0], tmp_path, tokenizer=made.tokenizer, base_model="base")
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert "load_run" in (tmp_path / "README.md").read_text()


@torch.no_grad()
@pytest.mark.parametrize("fusion", FUSIONS)
def test_saving_and_restoring(make, batch, tmp_path, fusion):
    model, other = make(fusion=fusion), make(fusion=fusion, noise=0.0)
    model.save_pretrained(tmp_path)
    other.restore(tmp_path)
    for task in TASKS[:2]:
        assert torch.equal(model(task=task, **batch).logits, other(task=task, **batch).logits)
    counts = model.parameter_counts()
    assert counts["trainable"] == sum(counts["per_adapter"].values()) + counts["heads"] + counts["fusion"]
    assert counts["fusion"] == {"sum": 0, "gated": 3 * 12 * 2, "attention": 3 * 12 * 6}[fusion]


@pytest.mark.parametrize(("fusion", "quantization"), [("gated", "nf4"), ("attention", "none")])
def test_under_bf16_adapters_stay_in_fp32(make, tiny, fusion, quantization):
    precision = Precision("bf16", torch.bfloat16, quantization)
    model, batch = make("llama", fusion, precision=precision, outside=("answer",)).train(), tiny("llama").encoded()
    for task in ("answer", "drugs"):
        labels = torch.ones(3, dtype=torch.long)
        if task == "drugs":
            labels = torch.where(batch["attention_mask"].bool(), 2, -100)
        with torch.autocast("cpu", torch.bfloat16):
            model(task=task, labels=labels, **batch).loss.backward()
    trained = {name: p for name, p in model.named_parameters() if p.grad is not None}
    assert any("fusion" in name for name in trained)
    assert all(p.dtype == p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in trained.values())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert model.backbone(**batch).last_hidden_state.dtype == torch.bfloat16


def test_adapters_depend_on_the_seed_and_their_name_alone(build):
    one = build("bert", noise=0.0, lora=shared_and_private(("drugs", "answer"), SHARED, PRIVATE, fusion="sum"))
    other = build("bert", noise=0.0, lora=only_private(TASKS[::-1], PRIVATE))
    ours = {n: p for n, p in one.named_parameters() if "private_drugs" in n}
    theirs = dict(other.named_parameters())
    assert ours
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_updates_of_dora_do_not_add_up(build):
    dora = LoraSettings(r=2, use_dora=True)
    with pytest.raises(InputError, match="DoRA do not add up"):
        build("bert", lora=shared_and_private(TASKS, dora, PRIVATE, fusion="sum"))


def test_switching_tasks_costs_next_to_nothing(make):
    model = make()
    started = time.perf_counter()
    for _ in range(500):
        model.activate("drugs")
        model.activate("answer")
    per_switch = (time.perf_counter() - started) / 1000
    assert per_switch / len(model.fusion._layers) < 20e-6  # of a layer, whose forward takes a hundred times that
    model.fusion.use(Activity(("shared",)))
    assert model.fusion._layers[0].active_adapters == ["shared"]


@torch.no_grad()
@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_a_task_of_the_language_model_exports_as_one_plain_adapter(build, tiny, tmp_path, quantization):
    made = tiny("phi3")
    card = TaskCard(
        name="write", type="generation", level=2, primary_metric="m", reader="jsonl", formulation="generative"
    )
    tag = TaskCard(name="tag", type="ner", level=1, labels=("Drug",), primary_metric="m", reader="jsonl")
    layout = shared_and_private(("write", "tag"), SHARED, PRIVATE, fusion="gated")
    precision = Precision("fp32", torch.float32, quantization)
    model = build("phi3", cards=(card, tag), lora=layout, noise=0.05, precision=precision)
    export_task_adapter(model, card, tmp_path, tokenizer=made.tokenizer, base_model=made.source.name_or_path)
    options = {"quantization_config": nf4(torch.float32), "device_map": {"": "cpu"}} if quantization == "nf4" else {}
    theirs = AutoPeftModelForCausalLM.from_pretrained(tmp_path, **options).eval()
    compute_exactly_on_cpu(theirs)
    ids = torch.tensor([[11, 12, 13, 14, 15, 16]])
    model.activate("tag")
    other = model.language_model(input_ids=ids).logits
    model.activate("write")
    ours = model.language_model(input_ids=ids).logits
    assert (ours - other).abs().max() > 1e-3
    torch.testing.assert_close(theirs(input_ids=ids).logits, ours, rtol=0, atol=1e-5)
