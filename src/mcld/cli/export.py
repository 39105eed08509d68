"""``mcld export``."""

from collections.abc import Sequence

from mcld.cli.main import Parser
from mcld.text import printable

EPILOG = """\
formats:
  onnx          one file for ONNX Runtime and many others: batches of any size, from images uint8 (batch, height, width,
                channels) of the network's size to logits and probabilities; needs mcld[export]
  onnx-int8     the same in 8-bit integers, calibrated on the run's training images; needs mcld[export]
  openvino      OpenVINO's files; needs mcld[openvino]
  torch         a torch.export program, which PyTorch runs without the network's code
  safetensors   the weights and model.json (architecture, classes, normalisation)
  repdistiller  one file {"model": state dict} of torch.save, as RepDistiller, mdistiller and their descendants load
                their CIFAR networks

Every export is read back and compared with the network on the run's validation images before it is put in its place.
The table shows accuracy, size and latency beside the teacher's; it is kept as FILE.json. Beside an ONNX file is use.py,
which classifies photos with onnxruntime, numpy and Pillow alone.

  mcld export runs/small --format onnx
  python runs/small/export/use.py runs/small/export/model.onnx photo.jpg
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = Parser("export", "RUN --format NAME [--weights last|best] [--out FOLDER] [--force]", EPILOG)
    parser.add_argument("run", metavar="RUN", help="a run directory")
    parser.add_argument("--format", required=True, metavar="NAME", help="see below")
    parser.add_argument("--weights", default="last", metavar="WHICH", help="last or best (default: last)")
    parser.add_argument("--no-preprocess", action="store_true", help="leave the normalisation out of the graph")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads of the measurements (default: torch's)")
    parser.add_argument("--out", metavar="FOLDER", help="where to write (default: the folder export in the run)")
    parser.add_argument("--force", action="store_true", help="replace what is there")
    given = parser.parse_args(list(arguments))

    from mcld.registry import EXPORTS
    from mcld.runs import RunDirectory

    if given.format not in EXPORTS.names():  # said before anything big is imported
        raise EXPORTS.unknown(given.format)
    RunDirectory.open(given.run)

    from mcld.commands.export import export_run

    export_run(
        given.run,
        given.format,
        out=given.out,
        weights=given.weights,
        preprocess=not given.no_preprocess,
        threads=given.threads,
        force=given.force,
        tell=lambda line: print(printable(line), flush=True),
    )
    return 0
