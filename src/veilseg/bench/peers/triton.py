"""A real Triton server, by PyTriton: ``/v2/models/NAME/infer`` on loopback."""

import signal
import threading

from network import Network, options
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def _tensor(name: str, port):  # type: ignore[no-untyped-def]
    shape = tuple(int(length) for length in port.shape)[1:]
    return Tensor(name=name, dtype=port.element_type.to_dtype(), shape=shape)


def main() -> None:
    """Serve until SIGTERM."""
    told = options()
    networks = [Network(told.model, told.precision, told.threads) for _ in range(told.replicas)]

    def answered(network: Network):  # type: ignore[no-untyped-def]
        @batch
        def infer(proxy):  # type: ignore[no-untyped-def]
            return [network(proxy)]

        return infer

    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=told.port,
        grpc_address="127.0.0.1",
        grpc_port=told.port + 1,
        allow_metrics=False,
        log_verbose=0,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name=told.name,
            infer_func=[answered(network) for network in networks],
            inputs=[_tensor("proxy", networks[0].proxy)],
            outputs=[_tensor("answer", networks[0].answer)],
            # One tile at a time, as the network is compiled for.
            config=ModelConfig(max_batch_size=1, batcher=DynamicBatcher()),
        )
        triton.run()
        print(f"listening on http://127.0.0.1:{told.port}", flush=True)
        ended = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: ended.set())
        ended.wait()


if __name__ == "__main__":
    main()
