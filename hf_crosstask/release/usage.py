"""How a released task is loaded and called without this library, as code for its card."""

from __future__ import annotations

from dataclasses import dataclass

from hf_crosstask.release.bundle import Run
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.schema import TaskType

#: Tasks whose one output transformers calls a regression, and how a pipeline should turn it into a score.
_SCORED: dict[TaskType, str] = {"similarity": "none", "ranking": "sigmoid", "multiple_choice": "none"}
_HUB_TASKS: dict[TaskType, str] = {
    "ner": "token-classification",
    "span_ner": "token-classification",
    "multiple_choice": "multiple-choice",
    "ranking": "text-ranking",
    "similarity": "sentence-similarity",
    "generation": "text-generation",
}


@dataclass(frozen=True)
class Usage:
    """What a card shows of loading one task.

    Attributes:
        plain: code with PEFT and transformers alone; None where transformers has no class for the task.
        library: code with this library.
        note: what the numbers mean, or why there is no plain code.
    """

    plain: str | None
    library: str
    note: str


def hub_task(card: TaskCard) -> str:
    """The task as the Hub names it (`pipeline_tag`)."""
    return "text-generation" if card.formulation != "head" else _HUB_TASKS.get(card.type, "text-classification")


def usage_of(run: Run, repo: str, task: str) -> Usage:
    """The code to load a task of a release."""
    card = run.cards[task]
    if run.adapter(task) is None or card.type in ("relation", "span_ner"):
        why = "the whole model was trained (`model/`), so there is no adapter"
        if run.is_fed(task):
            why = "the task reads what the entity level finds, and no class of transformers does that"
        elif card.type in ("relation", "span_ner"):
            why = "transformers has no class for this task"
        elif run.recipe.model.adapter is not None:
            why = "its adapters are weighed by the input, and plain PEFT has no such thing"
        return Usage(None, _library(repo, card, run), f"There is no code without this library: {why}.")
    if card.formulation != "head":
        return Usage(_language(run, repo, task), _library(repo, card, run), "")
    return Usage(_classes(run, repo, card), _library(repo, card, run), _meaning(card))


def _places(run: Run, repo: str, task: str) -> tuple[str, str, str]:
    """Arguments that name the base model, the adapter, and the prefix of the adapter's files in the repository."""
    own = run.own_base
    # By its folder: transformers would take the adapter at the root of a repository for the model's own.
    base = f'snapshot_download("{repo}", allow_patterns="{own}/*") + "/{own}"' if own else f'"{run.base}"'
    if own is None and run.recipe.model.revision:
        base += f', revision="{run.recipe.model.revision}"'
    if run.task == task and not run.within:
        return base, f'"{repo}"', ""
    return base, f'"{repo}", subfolder="adapters/{task}"', f"adapters/{task}/"


def _classes(run: Run, repo: str, card: TaskCard) -> str:
    kind, pipeline = (
        ("TokenClassification", "token-classification")
        if card.type == "ner"
        else ("SequenceClassification", "text-classification")
    )
    base, adapter, prefix = _places(run, repo, card.name)
    problem, call = _call(card)
    return f"""import json

from huggingface_hub import hf_hub_download{", snapshot_download" if run.own_base else ""}
from peft import PeftModel
from transformers import AutoModelFor{kind}, AutoTokenizer, pipeline

labels = json.load(open(hf_hub_download("{repo}", "{prefix}labels.json")))
base = AutoModelFor{kind}.from_pretrained(
    {base},
    num_labels=len(labels),
    id2label=dict(enumerate(labels)),
    label2id={{name: number for number, name in enumerate(labels)}},{problem}
)
model = PeftModel.from_pretrained(base, {adapter}).merge_and_unload().eval()
tokenizer = AutoTokenizer.from_pretrained({adapter})
classify = pipeline("{pipeline}", model=model, tokenizer=tokenizer)
print(classify({call}))"""


def _call(card: TaskCard) -> tuple[str, str]:
    pair = '{"text": "…", "text_pair": "…"}'
    if card.type == "multilabel":
        problem, call = "multi_label_classification", '"…", top_k=None, function_to_apply="sigmoid"'
    elif card.type in _SCORED:
        problem, call = "regression", f'{pair}, function_to_apply="{_SCORED[card.type]}"'
    else:
        return "", '"…"'
    return f'\n    problem_type="{problem}",', call


def _meaning(card: TaskCard) -> str:
    low, high = card.score_range
    meanings: dict[TaskType, str] = {
        "multilabel": "Every label has a probability of its own; it holds where that reaches the task's `threshold` in "
        "`result.json`.",
        "similarity": f"The score runs from 0 to 1, for {low:g} to {high:g} of the data.",
        "ranking": "The score is the probability that the candidate (`text_pair`) is relevant to the query (`text`).",
        "multiple_choice": "Score every choice (`text_pair`) of a question (`text`); the highest score is the answer.",
        "ner": "The pipeline tags sub-tokens; the scores above read one tag a word, as this library does.",
    }
    return meanings.get(card.type, "")


def _language(run: Run, repo: str, task: str) -> str:
    base, adapter, _ = _places(run, repo, task)
    download = "from huggingface_hub import snapshot_download\n" if run.own_base else ""
    return f"""{download}from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = AutoModelForCausalLM.from_pretrained({base})
model = PeftModel.from_pretrained(base, {adapter}).merge_and_unload().eval()
tokenizer = AutoTokenizer.from_pretrained({adapter})
message = "…"  # the instruction and the text, as hf_crosstask.encoding.prompts writes them
if tokenizer.chat_template:
    turn = [{{"role": "user", "content": message}}]
    prompt = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
else:
    prompt = f"{{message}}\\nAnswer:"
ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=not tokenizer.chat_template)["input_ids"]
answer = model.generate(ids, max_new_tokens=64, do_sample=False)[0, ids.shape[1] :]
print(tokenizer.decode(answer, skip_special_tokens=True))"""


def _library(repo: str, card: TaskCard, run: Run) -> str:
    task = "" if (run.task is not None and not run.within) or len(run.cards) == 1 else f', task="{card.name}"'
    examples: dict[TaskType, str] = {
        "relation": '{"text": "…", "entities": […], "head": "<entity id>", "tail": "<entity id>"}',
        "similarity": '{"text": "…", "text_pair": "…"}',
        "ranking": '{"text": "…", "text_pair": "…"}',
        "multiple_choice": '{"text": "…", "choices": ["…", "…"]}',
    }
    example = examples.get(card.type, '"…"')
    return f"""from hf_crosstask import load_released

model, tokenizer, predict = load_released("{repo}"{task})  # revision="…" pins it
print(predict({example}))"""
