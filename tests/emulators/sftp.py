"""An SFTP server of one folder: `sftp.py FOLDER USER PASSWORD`. Runs where asyncssh is installed."""

import asyncio
import sys

import asyncssh

folder, user, password = sys.argv[1:]


class Server(asyncssh.SSHServer):  # type: ignore[misc]
    """Lets one user in."""

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, given: str) -> bool:
        return (username, given) == (user, password)


async def main() -> None:
    await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=Server,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=folder.encode()),
    )
    await asyncio.Event().wait()


asyncio.run(main())
