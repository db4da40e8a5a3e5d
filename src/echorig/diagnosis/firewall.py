"""The commands that open a port in the firewall of a rig."""

from __future__ import annotations

from .finding import Finding

__all__ = ['firewall_finding']


def firewall_finding(port: int, protocol: str) -> Finding:
    """Return the commands for each system, to be typed on the rig; `protocol` is udp or tcp."""
    upper = protocol.upper()
    commands = {
        'Windows': (
            f'New-NetFirewallRule -DisplayName "echorig {upper} {port}" -Direction Inbound -Action Allow '
            f'-Protocol {upper} -LocalPort {port} -Profile Any'
        ),
        'Windows, older': (
            f'netsh advfirewall firewall add rule name="echorig {upper} {port}" dir=in action=allow '
            f'protocol={upper} localport={port}'
        ),
        'Linux with ufw': f'sudo ufw allow {port}/{protocol}',
        'Linux with firewalld': (
            f'sudo firewall-cmd --permanent --add-port={port}/{protocol} && sudo firewall-cmd --reload'
        ),
    }
    advice = '\n'.join(f'{system}: {command}' for system, command in commands.items())
    text = f'open port {port} on the rig, as administrator there:'
    return Finding('firewall', None, text, advice, {'port': port, 'protocol': protocol, 'commands': commands})
