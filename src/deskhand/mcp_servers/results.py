"""What MCP servers say, made into what the engine reads, within bounds. Pure."""

from collections.abc import Sequence
from typing import Any

import mcp_types as types
import msgspec

from ..ports.mcp import PICTURES, RemotePicture, RemoteResult, RemoteTool
from .bounds import McpBounds


def remote_tool(tool: types.Tool, bounds: McpBounds) -> RemoteTool | None:
    """A listed tool; None for one that cannot be offered: it has no name, or takes no object."""
    schema = tool.input_schema
    if not 0 < len(tool.name) <= bounds.name_characters or schema.get("type", "object") != "object":
        return None
    read_only = tool.annotations is not None and tool.annotations.read_only_hint is True
    return RemoteTool(tool.name, tool.description or "", {"type": "object", **schema}, read_only)


def size(tools: Sequence[RemoteTool]) -> int:
    """The characters of a listing."""
    return sum(len(tool.name) + len(tool.description) + len(msgspec.json.encode(tool.input_schema)) for tool in tools)


def remote_result(result: types.CallToolResult, bounds: McpBounds) -> RemoteResult:
    """What a call came to. What is too long, or what no model reads, is noted instead."""
    parts: list[str | RemotePicture] = []
    text, pictures = bounds.text_characters, bounds.picture_characters
    blocks = result.content
    if not blocks and result.structured_content is not None:
        return RemoteResult([_cut(_json(result.structured_content), text)], result.is_error)
    for block in blocks:
        said = _part(block)
        if isinstance(said, RemotePicture):
            if len(said.data) <= pictures:
                pictures -= len(said.data)
                parts.append(said)
                continue
            said = f"[a picture ({said.media_type}) that is too large to show]"
        parts.append(_cut(said, text))
        text = max(text - len(said), 0)
    return RemoteResult(parts, result.is_error)


def _part(block: types.ContentBlock) -> str | RemotePicture:
    match block:
        case types.TextContent(text=text):
            return text
        case types.ImageContent(mime_type=kind, data=data) if kind.lower() in PICTURES:
            return RemotePicture(kind.lower(), data)
        case types.ImageContent(mime_type=kind):
            return f"[a picture of type {kind[:64]}, which cannot be shown]"
        case types.AudioContent(mime_type=kind):
            return f"[audio of type {kind[:64]}, which cannot be heard]"
        case types.EmbeddedResource(resource=types.TextResourceContents(text=text)):
            return text
        case types.EmbeddedResource(resource=resource):
            return f"[a resource of type {(resource.mime_type or 'unknown')[:64]}: {str(resource.uri)[:1000]}]"
        case types.ResourceLink(uri=uri, name=name):
            return f"[a resource: {name[:256]} {str(uri)[:1000]}]"
        case _:
            return f"[{block.type}]"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}\n[cut: {len(text) - most} more characters]"
