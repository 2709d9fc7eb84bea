"""Every error Veilseg raises on purpose.

::

    VeilsegError
    ├── InvalidInput            what the user gave cannot be used
    │   ├── InvalidImage        a file that is no usable image
    │   ├── InvalidDataset      a data set that breaks its layout
    │   ├── GeometryMismatch    arrays or grids that do not fit together
    │   ├── InvalidVault        a vault that is missing, exists already or is open to others
    │   ├── RepeatRefused       a second, different proxy of one subject
    │   ├── InvalidShard        protected pairs that cannot be used
    │   ├── OutputNotWritable   a result that has nowhere to go
    │   ├── Busy                a folder that another process works in
    │   ├── TrainingDiverged    data or recipe by which the loss is no number any more
    │   ├── MissingDependency   an optional part that is not installed
    │   └── WrongUsage          options that do not go together
    ├── IntegrityError          a hash, format version or identity that does not match
    │   ├── BundleIntegrity
    │   ├── VaultIntegrity
    │   └── WrongKey            a consortium key that the bundle was not trained with
    └── ServerError             the other side of the wire
        ├── ServerUnreachable
        ├── ServerRefused       it answered with an error
        │   └── ModelFailed     about what it was sent, and would again
        └── InvalidAnswer       it answered with something that is no answer

Each message is one line that names the file or field and the reason. The command line
turns the three branches into exit codes, the server into HTTP statuses; neither is known here.
"""


class VeilsegError(Exception):
    """Base of all errors of this package."""


class InvalidInput(VeilsegError):
    """What the user gave cannot be used."""


class InvalidImage(InvalidInput):
    """A file that is no usable image."""


class InvalidDataset(InvalidInput):
    """A data set that breaks its layout."""


class GeometryMismatch(InvalidInput):
    """Arrays or grids that do not fit together."""


class InvalidVault(InvalidInput):
    """A vault that is missing, exists already or is open to others."""


class RepeatRefused(InvalidInput):
    """A second, different proxy of one subject would tell the server more."""


class InvalidShard(InvalidInput):
    """Protected pairs that cannot be used, or a scheme that has none."""


class OutputNotWritable(InvalidInput):
    """A result that has nowhere to go."""


class Busy(InvalidInput):
    """Another process works in the same folder."""


class TrainingDiverged(InvalidInput):
    """Data or a recipe by which the loss is no finite number any more."""


class MissingDependency(InvalidInput):
    """An optional part of Veilseg that is not installed."""


class WrongUsage(InvalidInput):
    """Options that do not go together, or a value that is none of the choices."""


class IntegrityError(VeilsegError):
    """A hash, format version or identity that does not match."""


class BundleIntegrity(IntegrityError):
    """A bundle whose files are not what its manifest pins."""


class VaultIntegrity(IntegrityError):
    """A vault that is damaged or belongs to another bundle."""


class WrongKey(IntegrityError):
    """A consortium key that the bundle was not trained with."""


class ServerError(VeilsegError):
    """The other side of the wire failed."""


class ServerUnreachable(ServerError):
    """No connection, or none that lasted, within the retries."""


class ServerRefused(ServerError):
    """The server answered with an error."""


class ModelFailed(ServerRefused):
    """The network could not process what it was sent (500)."""


class InvalidAnswer(ServerError):
    """The server answered with something that is not a usable answer."""
