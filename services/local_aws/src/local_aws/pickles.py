"""moto's objects as bytes and back.

References from one backend to another are kept as references: moto's RDS backend holds the
Secrets Manager backend, and a copy would differ from the original after a restart.
"""

import copyreg
import importlib
import io
import pickle
import threading
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)
from moto.core.base_backend import BackendDict, BaseBackend
from moto.iam.models import AWSManagedPolicy, iam_backends
from moto.ssm.models import ParameterDict

type Reference = tuple[str, ...]


def backend_name(backend: BaseBackend) -> str:
    """The stable name of a backend: where its class is, its account and its region."""
    cls = type(backend)
    return f"{cls.__module__}:{cls.__qualname__}/{backend.account_id}/{backend.region_name}"


def backend_named(name: str) -> BaseBackend:
    """The live backend of that name; moto creates it if it is not there yet.

    Raises:
        LookupError: this version of moto has no such backend.
    """
    class_name, account_id, region = name.split("/")
    module_name, qualname = class_name.split(":")
    module = importlib.import_module(module_name)
    for value in vars(module).values():
        if isinstance(value, BackendDict) and value.backend.__qualname__ == qualname:
            return value[account_id][region]
    raise LookupError(f"moto has no backend {class_name}")


def dumps(value: object) -> tuple[bytes, set[str]]:
    """Pickle a value; the names are those of the backends that it holds references to."""
    buffer = io.BytesIO()
    pickler = _Pickler(buffer)
    pickler.dump(value)
    return buffer.getvalue(), pickler.references


def loads(content: bytes) -> tuple[object, set[str]]:
    """The value that `dumps` was given, its references resolved to the live backends."""
    unpickler = _Unpickler(content)
    return unpickler.load(), unpickler.references


class _Pickler(pickle.Pickler):
    def __init__(self, buffer: io.BytesIO) -> None:
        super().__init__(buffer, protocol=pickle.HIGHEST_PROTOCOL)
        self.references: set[str] = set()

    def persistent_id(self, obj: object) -> Reference | None:
        if isinstance(obj, BaseBackend):
            name = backend_name(obj)
            self.references.add(name)
            return "backend", name
        if isinstance(obj, AWSManagedPolicy):
            return "aws-policy", obj.account_id, obj.partition, obj.arn
        return None


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self.references: set[str] = set()

    def persistent_load(self, pid: Reference) -> object:
        match pid:
            case "backend", name:
                self.references.add(name)
                return backend_named(name)
            case "aws-policy", account_id, partition, arn:
                return iam_backends[account_id][partition].managed_policies[arn]
        raise pickle.UnpicklingError(f"unknown reference {pid}")


def install() -> None:
    """Teach pickle the types inside moto's state that it does not know."""
    copyreg.pickle(type(threading.Lock()), lambda lock: (new_lock, ()))
    copyreg.pickle(type(threading.RLock()), lambda lock: (new_rlock, ()))
    copyreg.pickle(ParameterDict, _reduce_parameters)
    samples = (
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP256R1()),
        ed25519.Ed25519PrivateKey.generate(),
    )
    for private in samples:
        copyreg.pickle(type(private), _reduce_private_key)
        copyreg.pickle(type(private.public_key()), _reduce_public_key)
    copyreg.pickle(x509.Certificate, _reduce_certificate)


def _reduce_parameters(parameters: ParameterDict) -> tuple[Any, ...]:
    # A dict whose constructor takes an account and whose lookups load AWS's public parameters.
    return (
        ParameterDict,
        (parameters.account_id, parameters.region_name),
        vars(parameters),
        None,
        iter(list(dict.items(parameters))),
    )


def _reduce_private_key(key: PrivateKeyTypes) -> tuple[Any, ...]:
    return private_key, (key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),)


def _reduce_public_key(key: PublicKeyTypes) -> tuple[Any, ...]:
    return public_key, (key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),)


def _reduce_certificate(value: x509.Certificate) -> tuple[Any, ...]:
    return certificate, (value.public_bytes(Encoding.DER),)


# Saved states name these functions, because the objects' own classes have no name to import.


def new_lock() -> threading.Lock:
    """A new lock for an object that was saved with one."""
    return threading.Lock()


def new_rlock() -> threading.RLock:
    """A new reentrant lock for an object that was saved with one."""
    return threading.RLock()


def private_key(der: bytes) -> PrivateKeyTypes:
    """The private key that was saved."""
    return load_der_private_key(der, None)


def public_key(der: bytes) -> PublicKeyTypes:
    """The public key that was saved."""
    return load_der_public_key(der)


def certificate(der: bytes) -> x509.Certificate:
    """The certificate that was saved."""
    return x509.load_der_x509_certificate(der)
