// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Assets} from "./Assets.sol";
import {BadField, Kind, NotAllowed} from "./Common.sol";
import {Evaluations} from "./Evaluations.sol";

/// @title Names: from a readable name to weights, trust vector and live endpoints
contract Names {
    /// @param url where the service answers, at most 200 bytes.
    /// @param node account of the service node behind it.
    struct Endpoint {
        string url;
        address node;
    }

    /// @param modelId a model owned by the name's owner.
    /// @param weightsHash hash of the weights that the endpoints serve.
    /// @param evaluationId a finalised evaluation of that model, or 0.
    struct Resolution {
        uint256 modelId;
        bytes32 weightsHash;
        uint256 evaluationId;
        Endpoint[] endpoints;
    }

    uint256 public constant MAXIMUM_ENDPOINTS = 8;
    uint256 public constant MAXIMUM_URL_BYTES = 200;

    Assets public immutable assets;
    Evaluations public immutable evaluations;
    mapping(bytes32 nameHash => address) private _owners;
    mapping(bytes32 nameHash => Resolution) private _resolutions;

    event NameRegistered(bytes32 indexed nameHash, string name, address indexed owner);
    event NameTransferred(bytes32 indexed nameHash, string name, address indexed from, address indexed to);
    event ResolutionSet(
        bytes32 indexed nameHash, string name, uint256 indexed modelId, bytes32 weightsHash, uint256 evaluationId
    );

    /// Lower-case letters, digits, '-' and '.', 3 to 64 bytes; no '-' or '.' first, last, or beside another.
    error BadName(string name);
    error NameTaken(string name, address owner);
    error UnknownName(string name);

    constructor(Assets assets_, Evaluations evaluations_) {
        assets = assets_;
        evaluations = evaluations_;
    }

    /// @notice First come, first served.
    function register(string calldata name) external {
        if (!isValid(name)) revert BadName(name);
        bytes32 nameHash = keccak256(bytes(name));
        if (_owners[nameHash] != address(0)) revert NameTaken(name, _owners[nameHash]);
        _owners[nameHash] = msg.sender;
        emit NameRegistered(nameHash, name, msg.sender);
    }

    /// @notice Say what the name stands for, as a whole; replaces what was there.
    function setResolution(string calldata name, Resolution calldata resolution) external {
        bytes32 nameHash = _owned(name);
        _check(resolution);
        Resolution storage stored = _resolutions[nameHash];
        stored.modelId = resolution.modelId;
        stored.weightsHash = resolution.weightsHash;
        stored.evaluationId = resolution.evaluationId;
        delete stored.endpoints;
        for (uint256 i = 0; i < resolution.endpoints.length; i++) {
            stored.endpoints.push(resolution.endpoints[i]);
        }
        emit ResolutionSet(nameHash, name, resolution.modelId, resolution.weightsHash, resolution.evaluationId);
    }

    /// @notice Give the name away. Its resolution is cleared, because it speaks of a model of the old owner.
    function transfer(string calldata name, address to) external {
        if (to == address(0)) revert BadField("to");
        bytes32 nameHash = _owned(name);
        _owners[nameHash] = to;
        delete _resolutions[nameHash];
        emit NameTransferred(nameHash, name, msg.sender, to);
    }

    /// @return owner of the name.
    /// @return resolution with modelId 0 where none was set yet.
    function resolve(string calldata name) external view returns (address owner, Resolution memory resolution) {
        bytes32 nameHash = keccak256(bytes(name));
        owner = _owners[nameHash];
        if (owner == address(0)) revert UnknownName(name);
        resolution = _resolutions[nameHash];
    }

    function isValid(string calldata name) public pure returns (bool) {
        bytes calldata text = bytes(name);
        if (text.length < 3 || text.length > 64) return false;
        bool separator = true;
        for (uint256 i = 0; i < text.length; i++) {
            bytes1 letter = text[i];
            if ((letter >= "a" && letter <= "z") || (letter >= "0" && letter <= "9")) {
                separator = false;
            } else if ((letter == "-" || letter == ".") && !separator) {
                separator = true;
            } else {
                return false;
            }
        }
        return !separator;
    }

    function _owned(string calldata name) private view returns (bytes32 nameHash) {
        nameHash = keccak256(bytes(name));
        if (_owners[nameHash] == address(0)) revert UnknownName(name);
        if (_owners[nameHash] != msg.sender) revert NotAllowed(msg.sender);
    }

    function _check(Resolution calldata resolution) private view {
        if (assets.kindOf(resolution.modelId) != Kind.Model) revert BadField("modelId");
        if (assets.ownerOf(resolution.modelId) != msg.sender) revert NotAllowed(msg.sender);
        if (resolution.weightsHash == 0) revert BadField("weightsHash");
        if (resolution.evaluationId != 0) {
            (uint256 modelId,) = evaluations.vectorOf(resolution.evaluationId);
            if (modelId != resolution.modelId) revert BadField("evaluationId");
        }
        uint256 endpoints = resolution.endpoints.length;
        if (endpoints == 0 || endpoints > MAXIMUM_ENDPOINTS) revert BadField("endpoints");
        for (uint256 i = 0; i < endpoints; i++) {
            uint256 length = bytes(resolution.endpoints[i].url).length;
            if (length == 0 || length > MAXIMUM_URL_BYTES) revert BadField("url");
            if (resolution.endpoints[i].node == address(0)) revert BadField("node");
        }
    }
}
