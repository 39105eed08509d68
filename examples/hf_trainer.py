"""Hugging Face's Trainer: ``pip install transformers accelerate``, ``python examples/hf_trainer.py``."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Subset
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

import mcld
from digits import CLASSES, digits, trained_teacher


class DistillationTrainer(Trainer):
    """A Trainer whose model is a Distiller, so that data parallelism wraps all that is trained.

    The student of the pretrained kind is saved by ``trainer.model.student.save_pretrained(...)``.
    """

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, **_: Any
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """The Distiller's loss, at the Trainer's progress."""
        progress = self.state.global_step / self.state.max_steps
        out = model(inputs["pixel_values"], inputs["labels"], progress=progress, index=inputs.get("index"))
        return (out.loss, {"logits": out.logits}) if return_outputs else out.loss


def collate(rows: list[tuple[Tensor, Tensor, Tensor]]) -> dict[str, Tensor]:
    """A batch as the Trainer hands it on."""
    images, labels, index = (torch.stack(column) for column in zip(*rows, strict=True))
    return {"pixel_values": images, "labels": labels, "index": index}


def student() -> nn.Module:
    """A vision transformer for 8×8 images of one channel."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = ViTConfig(image_size=8, patch_size=2, num_channels=1, num_labels=CLASSES, **sizes)
    made: nn.Module = ViTForImageClassification(config)
    return made


def train(teacher: nn.Module, folder: str, steps: int = 100, method: str = "mcld") -> DistillationTrainer:
    """Distil a vision transformer from the teacher."""
    distiller = mcld.Distiller(student(), teacher, method, image_size=8)
    arguments = TrainingArguments(
        output_dir=folder,
        max_steps=steps,
        per_device_train_batch_size=64,
        learning_rate=1e-3,
        remove_unused_columns=False,
        label_names=["labels"],
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    )
    data = digits()
    held_out = Subset(data, range(1600, len(data)))
    trainer = DistillationTrainer(
        model=distiller,
        args=arguments,
        train_dataset=Subset(data, range(1600)),
        eval_dataset=held_out,
        data_collator=collate,
        compute_metrics=lambda p: {"top1": float((p.predictions.argmax(1) == p.label_ids).mean())},
    )
    trainer.train()
    return trainer


if __name__ == "__main__":
    trainer = train(trained_teacher(), "hf-run")
    print(trainer.evaluate())
    trainer.model.student.save_pretrained("hf-student")
